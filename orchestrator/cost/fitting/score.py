"""What the model says of every row of a file, and how far off it is where there is a time."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.cost.basis import basis_of
from orchestrator.cost.fitting.errors import Errors, errors_of, weights_of
from orchestrator.cost.fitting.fit import usable
from orchestrator.cost.memory import memory_of
from orchestrator.cost.rows.observation import Observation, observation_of
from orchestrator.cost.rows.row import Row, Unreadable
from orchestrator.cost.step import cost_of
from orchestrator.records.calibration import Calibration, Origin
from orchestrator.records.plan import CostParts, MemoryParts


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What the model says of one row; nothing but `skipped_reason` where it cannot.

    `interval_s` holds four of five measured steps of the row's class, None where no rate was
    fitted. `is_scored` tells whether the row counts in the errors.
    """

    id: str
    observation: Observation | None = None
    cost: CostParts | None = None
    memory: MemoryParts | None = None
    interval_s: tuple[float, float] | None = None
    origin: Origin | None = None
    is_scored: bool = False
    skipped_reason: str = ""

    @property
    def step_s(self) -> float | None:
        """The modelled step."""
        return None if self.cost is None else self.cost.total_s

    @property
    def tokens_per_s_per_gpu(self) -> float | None:
        """The modelled tokens a second of one accelerator."""
        if self.cost is None or self.observation is None:
            return None
        workload = self.observation.workload
        return workload.tokens_per_step / self.cost.total_s / workload.world_size

    @property
    def error(self) -> float | None:
        """Predicted / measured - 1, None where nothing was measured."""
        if self.cost is None or self.observation is None or not self.observation.measured_s:
            return None
        return self.cost.total_s / self.observation.measured_s - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """All predictions of a file, and the errors by class and by class and group."""

    predictions: tuple[Prediction, ...]
    by_kind: dict[str, Errors]
    by_group: dict[tuple[str, str], Errors]
    covered: dict[str, float]

    @property
    def num_skipped(self) -> int:
        """Rows of which the model says nothing."""
        return sum(bool(one.skipped_reason) for one in self.predictions)


def score_of(rows: Sequence[Row], calibration: Calibration) -> Score:
    """Return what a calibration says of rows, and how far off it is."""
    predictions = tuple(prediction_of(row, calibration) for row in rows)
    scored = [one for one in predictions if one.is_scored]
    kinds = sorted({_seen(one).kind for one in scored})
    groups = sorted({(_seen(one).kind, _seen(one).group) for one in scored})
    return Score(
        predictions=predictions,
        by_kind={kind: _errors([p for p in scored if _seen(p).kind == kind]) for kind in kinds},
        by_group={
            key: _errors([p for p in scored if (_seen(p).kind, _seen(p).group) == key])
            for key in groups
        },
        covered={kind: _covered([p for p in scored if _seen(p).kind == kind]) for kind in kinds},
    )


def prediction_of(row: Row, calibration: Calibration) -> Prediction:
    """Return what a calibration says of one row."""
    try:
        seen = observation_of(row, calibration=calibration)
    except Unreadable as error:
        return Prediction(id=row.id, skipped_reason=str(error))
    cost = cost_of(seen.workload, seen.layout)
    basis = basis_of(seen.workload)
    return Prediction(
        id=row.id,
        observation=seen,
        cost=cost,
        memory=memory_of(seen.workload, seen.layout),
        interval_s=basis.interval(cost.total_s),
        origin=basis.origin,
        is_scored=usable(seen),
    )


def _errors(predictions: Sequence[Prediction]) -> Errors:
    return errors_of([_seen(one) for one in predictions], _steps(predictions))


def _covered(predictions: Sequence[Prediction]) -> float:
    """Return the share of rows whose measured step lies in the interval told, groups alike."""
    told = [one for one in predictions if one.interval_s is not None]
    if not told:
        return float("nan")
    weights = weights_of([_seen(one) for one in told])
    inside = np.array([_is_inside(one) for one in told])
    return float(weights[inside].sum() / weights.sum())


def _is_inside(prediction: Prediction) -> bool:
    measured_s, interval_s = _seen(prediction).measured_s, prediction.interval_s
    assert measured_s is not None  # noqa: S101  scored rows have a time
    assert interval_s is not None  # noqa: S101  only such predictions are asked
    return interval_s[0] <= measured_s <= interval_s[1]


def _steps(predictions: Sequence[Prediction]) -> np.ndarray:
    return np.array([one.step_s for one in predictions])


def _seen(prediction: Prediction) -> Observation:
    assert prediction.observation is not None  # noqa: S101  scored predictions have one
    return prediction.observation
