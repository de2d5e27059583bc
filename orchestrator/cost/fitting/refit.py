"""Refit on rows of one's own: what the published rows taught is the guess to start from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from orchestrator.catalog.calibration import built_in
from orchestrator.cost.fitting.errors import Errors, errors_of, group_of
from orchestrator.cost.fitting.fit import Fit, calibration_from, fit_of, usable, with_defaults
from orchestrator.cost.fitting.parameters import CLUSTER, PARAMETERS, Parameter
from orchestrator.cost.fitting.problem import Problem, problem_of
from orchestrator.cost.rows.observation import Observation, observation_of
from orchestrator.cost.rows.row import Row, Unreadable
from orchestrator.errors import InvalidFile
from orchestrator.errors import Problem as FileProblem
from orchestrator.records.calibration import Calibration

KEPT = 0.5
"""Spread of a guess that published rows have taught, over that of an engineer's; assumed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A number before and after, and by how many standard deviations of its guess it moved."""

    name: str
    before: float
    after: float
    deviations: float
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Refit:
    """A fit on given rows, the calibration it makes, and the errors before and after."""

    fit: Fit
    calibration: Calibration
    before: Mapping[str, Errors]
    after: Mapping[str, Errors]
    moves: tuple[Move, ...]
    num_groups: int
    num_skipped: int


def refitted(rows: Sequence[Row], *, name: str, from_scratch: bool) -> Refit:
    """Return the fit of the rows that can be used.

    From scratch, every number starts at an engineer's guess: that is how the built-in
    calibration is made. Otherwise the built-in values are the guess, with half the spread, and
    one factor for the cluster as a whole joins them.

    Raises:
        InvalidFile: no row can be used.
    """
    observations = observations_of(rows)
    if not observations:
        problem = FileProblem(key="", message="no row has a step time and a layout to predict")
        raise InvalidFile(file="the measured rows", problems=[problem])
    parameters = PARAMETERS if from_scratch else taught()
    problem_ = problem_of(observations)
    fit = fit_of(problem_, parameters=parameters)
    prior = {one.name: one.prior for one in parameters}
    return Refit(
        fit=fit,
        calibration=calibration_from(fit, name=name),
        before=_errors(problem_, with_defaults(prior)),
        after=_errors(problem_, with_defaults(fit.values)),
        moves=tuple(
            Move(
                name=one.name,
                before=one.prior,
                after=fit.values[one.name],
                deviations=one.to_free(fit.values[one.name]),
                meaning=one.meaning,
            )
            for one in parameters
        ),
        num_groups=len({group_of(one) for one in observations}),
        num_skipped=len(rows) - len(observations),
    )


def observations_of(rows: Sequence[Row]) -> tuple[Observation, ...]:
    """Return the rows that can be fitted, in order."""
    found = []
    for row in rows:
        try:
            one = observation_of(row)
        except Unreadable:
            continue
        if usable(one):
            found.append(one)
    return tuple(found)


def taught() -> tuple[Parameter, ...]:
    """Return the parameters with the built-in calibration as their guess, and the cluster's."""
    known = built_in()
    own = [
        replace(one, prior=known.value(one.name), spread=KEPT * one.spread) for one in PARAMETERS
    ]
    return (*own, CLUSTER)


def _errors(problem: Problem, calibration: Calibration) -> dict[str, Errors]:
    predicted = problem.predicted_s(calibration)
    kinds = np.array([one.kind for one in problem.observations])
    return {
        kind: errors_of(
            [one for one in problem.observations if one.kind == kind], predicted[kinds == kind]
        )
        for kind in sorted(set(kinds.tolist()))
    }
