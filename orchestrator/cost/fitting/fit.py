"""Fit the numbers of the cost model to measured rows, and hold groups out to see what it is worth.

One fit over all classes: most numbers are shared. Rows weigh by group: a group counts as its
rows up to `MOST_ROWS`, more near-duplicates add nothing. Only rows that say enough are fitted
(`usable`); none has a constant of its own.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from orchestrator.cost.compose import Array
from orchestrator.cost.fitting.errors import figures_of, group_of
from orchestrator.cost.fitting.parameters import DEFAULTS, PARAMETERS, Parameter
from orchestrator.cost.fitting.problem import Problem, calibration_of
from orchestrator.cost.fitting.solve import MOST_STEPS, Solution, slopes_of, solved, solved_linear
from orchestrator.cost.rows.observation import Observation
from orchestrator.records.calibration import Calibration, Figure, Origin

SIGMA = 0.08
"""Relative scatter of a row that says everything; beyond it Huber's loss grows linearly."""

MOST_ROWS = 25
"""Rows as which a group counts at most."""

MOVED = 0.85
"""A figure is `fitted` where rows shrink its prior's standard deviation to this share or less."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fit:
    """What a fit found: coordinates, values, how sure rows make it of each, and the loss."""

    problem: Problem
    parameters: tuple[Parameter, ...]
    solution: Solution
    weights: Array
    slopes: Array
    shrunk: Array

    @property
    def values(self) -> Mapping[str, float]:
        """The value of each parameter."""
        return values_at(self.parameters, self.solution.free)

    @property
    def num_moved(self) -> int:
        """Parameters that rows have moved; the others are priors."""
        return int((self.shrunk <= MOVED).sum())

    def predicted_s(self, free: Array | None = None) -> Array:
        """Return the modelled step of each row, at other coordinates if they are given."""
        at = self.solution.free if free is None else free
        return self.problem.predicted_s(with_defaults(values_at(self.parameters, at)))


def usable(observation: Observation) -> bool:
    """Return whether a row may be fitted and scored.

    It has a time, somebody read it, and its layout is known (completeness A, B or not told).
    """
    row = observation.row
    return (
        observation.measured_s is not None
        and observation.completeness in {"A", "B", ""}
        and row.text("confidence") != "from-memory"
    )


def fit_of(
    problem: Problem,
    *,
    parameters: tuple[Parameter, ...] = PARAMETERS,
    start: Mapping[str, float] | None = None,
    fixed: frozenset[str] = frozenset(),
    most_steps: int = MOST_STEPS,
) -> Fit:
    """Return the fit of a problem; `fixed` parameters stay where they start."""
    weights = _weights(problem.observations)
    begin = np.array(
        [one.to_free(start[one.name]) if start and one.name in start else 0.0 for one in parameters]
    )
    moving = np.array([one.name not in fixed for one in parameters])
    residuals = _Residuals(problem, parameters)
    solution = solved(residuals, start=begin, weights=weights, free=moving, most_steps=most_steps)
    slopes = slopes_of(residuals, solution.free)
    error = residuals(solution.free)
    curved = weights / np.maximum(1.0, np.abs(error))
    normal = (slopes * curved[:, None]).T @ slopes + np.eye(len(parameters))
    shrunk = np.sqrt(np.diag(np.linalg.inv(normal)))
    return Fit(
        problem=problem,
        parameters=parameters,
        solution=solution,
        weights=weights,
        slopes=slopes,
        shrunk=np.where(moving, shrunk, 1.0),
    )


def held_out_s(fit: Fit, *, groups: Sequence[str] | None = None) -> Array:
    """Return each row's modelled step by a fit that never saw its group.

    Each group is left out of the residuals linearised at the whole fit, the robust problem is
    solved again, and the left-out rows are then predicted by the full model. Where nearly all
    that is known of a number leaves with its group, that is a step of Newton, not a fit anew:
    the benchmark compares both.
    """
    problem = fit.problem
    residuals = _Residuals(problem, fit.parameters)
    here = fit.solution.free
    error = residuals(here)
    held = np.array([group_of(one) for one in problem.observations] if groups is None else groups)
    predicted = np.zeros(len(held))
    for name in sorted(set(held.tolist())):
        out = held == name
        free = solved_linear(error, fit.slopes, start=here, weights=np.where(out, 0.0, fit.weights))
        predicted[out] = fit.predicted_s(free)[out]
    return predicted


def calibration_from(fit: Fit, *, name: str) -> Calibration:
    """Return a fit as a calibration, with the errors it leaves on held-out rows of each class."""
    figures = {
        one.name: Figure(
            value=fit.values[one.name],
            origin=Origin.FITTED if shrunk <= MOVED else Origin.DEFAULT,
        )
        for one, shrunk in zip(fit.parameters, fit.shrunk, strict=True)
    }
    guessed = {key: Figure(value=one, origin=Origin.DEFAULT) for key, one in DEFAULTS.items()}
    figures = {**guessed, **figures}
    observations, predicted = fit.problem.observations, held_out_s(fit)
    kinds = sorted({one.kind for one in observations})
    errors = {}
    for kind in kinds:
        chosen = np.array([one.kind == kind for one in observations])
        rows = [one for one in observations if one.kind == kind]
        errors[kind] = figures_of(rows, predicted[chosen])
    return Calibration(
        name=name,
        figures=MappingProxyType(figures),
        errors=MappingProxyType(errors),
        fitted_rows=len(observations),
        fitted_parameters=fit.num_moved,
    )


def values_at(parameters: Sequence[Parameter], free: Array) -> dict[str, float]:
    """Return the values of parameters at some coordinates."""
    return {one.name: one.from_free(float(at)) for one, at in zip(parameters, free, strict=True)}


def with_defaults(values: Mapping[str, float]) -> Calibration:
    """Return a calibration of these values, and the figures that no fit moves."""
    return calibration_of({**DEFAULTS, **values})


@dataclass(frozen=True, slots=True)
class _Residuals:
    """log(predicted / measured) / SIGMA of each row, as a function of coordinates."""

    problem: Problem
    parameters: tuple[Parameter, ...]

    def __call__(self, free: Array) -> Array:
        values = values_at(self.parameters, free)
        ratio = self.problem.predicted_s(with_defaults(values)) / self.problem.measured_s
        residual: Array = np.log(ratio) / SIGMA
        return residual


def _weights(observations: Sequence[Observation]) -> Array:
    keys = [(one.kind, group_of(one)) for one in observations]
    counted = Counter(keys)
    return np.array([min(MOST_ROWS, counted[key]) / counted[key] for key in keys])
