"""All observations as one array, priced by any calibration in a few milliseconds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from orchestrator.cost.bills import joined, layout_bill
from orchestrator.cost.compose import Array, Bills, PriceTable, composed
from orchestrator.cost.prices import prices_of, slowdown_of
from orchestrator.cost.rows.observation import Observation
from orchestrator.cost.step import table_of
from orchestrator.cost.workload import Workload
from orchestrator.records.calibration import Calibration, Figure, Origin

_COLUMNS = tuple(field.name for field in fields(PriceTable))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Problem:
    """Observations with their bills; `price_of` says which workload of `priced` a row has."""

    observations: tuple[Observation, ...]
    bills: Bills
    priced: tuple[Workload, ...]
    price_of: np.ndarray
    measured_s: Array

    def predicted_s(self, calibration: Calibration) -> Array:
        """Return the modelled step of each observation."""
        steps: Array = composed(self.bills, self.table(calibration)).sum(axis=-1)
        return steps

    def table(self, calibration: Calibration) -> PriceTable:
        """Return the prices of each observation."""
        rows = table_of([prices_of(workload, calibration) for workload in self.priced])
        slow = [slowdown_of(one.workload, calibration) for one in self.observations]
        columns = {name: getattr(rows, name)[self.price_of] for name in _COLUMNS}
        return PriceTable(**{**columns, "slowdown": np.array(slow)})


def problem_of(observations: Sequence[Observation]) -> Problem:
    """Return observations ready to be fitted; those without a time are left out."""
    timed = tuple(one for one in observations if one.measured_s is not None)
    places: dict[tuple[object, ...], int] = {}
    priced: list[Workload] = []
    price_of = []
    for one in timed:
        key = _price_key(one.workload)
        if key not in places:
            places[key] = len(priced)
            priced.append(one.workload)
        price_of.append(places[key])
    return Problem(
        observations=timed,
        bills=joined([layout_bill(one.workload, one.layout) for one in timed]),
        priced=tuple(priced),
        price_of=np.array(price_of),
        measured_s=np.array([one.measured_s for one in timed]),
    )


def calibration_of(
    values: Mapping[str, float], *, name: str = "fit", origin: Origin = Origin.FITTED
) -> Calibration:
    """Return a calibration of these values."""
    figures = {key: Figure(value=value, origin=origin) for key, value in values.items()}
    return Calibration(name=name, figures=figures, errors={})


def _price_key(workload: Workload) -> tuple[object, ...]:
    """Return all that prices depend on."""
    card = workload.accelerator
    return (
        *(card.name, card.power_w, card.memory_bandwidth_tb_per_s, card.scale_up_gb_per_s),
        *(workload.matmul_format, workload.precision),
        replace(workload.software, family="", release=0.0),
        *(workload.fabric, bool(workload.shape.experts)),
    )
