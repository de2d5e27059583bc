"""Robust least squares with priors, by Gauss-Newton steps that a trust region bounds.

Minimised over the coordinates z of the parameters (0 at the prior, 1 a standard deviation off):

    sum_i w_i rho(log(predicted_i / measured_i) / sigma) + sum_j z_j^2

rho is Huber's: quadratic to 1, linear beyond, so that single rows with unstated software do not
bend everything. Source: Huber 1964; Levenberg 1944 for the damping. Deterministic: no random
start, no threads.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from orchestrator.cost.compose import Array

Residuals = Callable[[Array], Array]
"""Scaled errors of all rows at some coordinates."""

STEP = 0.02
"""Difference of a coordinate for the slopes, in standard deviations of its prior. Wide enough to
see past kinks: some rows lie where what is hidden begins to show, and a slope taken on one side of
such a point or the other moves held-out errors by half a percent from fit to fit."""

TOLERANCE = 1e-6
MOST_STEPS = 60
MOST_MOVE = 1.5
"""Standard deviations that a coordinate moves in one step at most."""

FIRST_DAMPING = 1e-3
TRIALS = 12
EASE = 6.0
TIGHTEN = 4.0
LEAST_DAMPING = 1e-9
LINEAR_STEPS = 20
LINEAR_TOLERANCE = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """Coordinates of the least loss, the loss, and how many steps were taken."""

    free: Array
    loss: float
    steps: int


def solved(
    residuals: Residuals,
    *,
    start: Array,
    weights: Array,
    free: npt.NDArray[np.bool_] | None = None,
    most_steps: int = MOST_STEPS,
) -> Solution:
    """Return the coordinates of the least loss; `free` marks those that may move."""
    moving = np.flatnonzero(np.ones(len(start), dtype=bool) if free is None else free)
    here = _state(residuals, start, weights)
    damping = FIRST_DAMPING
    for step in range(most_steps):
        better, damping = _improved(residuals, here, weights, moving=moving, damping=damping)
        if better is None:
            return Solution(free=here.free, loss=here.loss, steps=step)
        done = here.loss - better.loss < TOLERANCE * here.loss
        here = better
        if done:
            return Solution(free=here.free, loss=here.loss, steps=step + 1)
    return Solution(free=here.free, loss=here.loss, steps=most_steps)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _State:
    free: Array
    error: Array
    loss: float


def _state(residuals: Residuals, free: Array, weights: Array) -> _State:
    error = residuals(free)
    return _State(free=free, error=error, loss=_loss(error, free, weights))


def _improved(
    residuals: Residuals,
    here: _State,
    weights: Array,
    *,
    moving: npt.NDArray[np.intp],
    damping: float,
) -> tuple[_State | None, float]:
    """Return a state of less loss, None where there is none, and the damping that found it."""
    slopes = _slopes(residuals, here.free, here.error, moving)
    curved = weights / np.maximum(1.0, np.abs(here.error))
    normal = (slopes * curved[:, None]).T @ slopes + np.eye(len(moving))
    gradient = (slopes * curved[:, None]).T @ here.error + here.free[moving]
    for _ in range(TRIALS):
        move = np.linalg.solve(normal + damping * np.diag(np.diag(normal)), -gradient)
        there = here.free.copy()
        there[moving] += np.clip(move, -MOST_MOVE, MOST_MOVE)
        new = _state(residuals, there, weights)
        if new.loss < here.loss:
            return new, max(damping / EASE, LEAST_DAMPING)
        damping *= TIGHTEN
    return None, damping


def solved_linear(error: Array, slopes: Array, *, start: Array, weights: Array) -> Array:
    """Return the coordinates of the least loss where residuals are error + slopes (z - start)."""
    here = start.copy()
    for _ in range(LINEAR_STEPS):
        residual = error + slopes @ (here - start)
        curved = weights / np.maximum(1.0, np.abs(residual))
        normal = (slopes * curved[:, None]).T @ slopes + np.eye(len(here))
        move = np.linalg.solve(normal, -((slopes * curved[:, None]).T @ residual + here))
        here = here + np.clip(move, -MOST_MOVE, MOST_MOVE)
        if np.abs(move).max() < LINEAR_TOLERANCE:
            break
    return here


def slopes_of(residuals: Residuals, here: Array) -> Array:
    """Return the slopes of residuals, [rows, coordinates], by differences."""
    return _slopes(residuals, here, residuals(here), np.arange(len(here)))


def _loss(error: Array, free: Array, weights: Array) -> float:
    size = np.abs(error)
    huber = np.where(size <= 1, size**2, 2 * size - 1)
    return float((weights * huber).sum() + (free**2).sum())


def _slopes(residuals: Residuals, here: Array, error: Array, moving: npt.NDArray[np.intp]) -> Array:
    columns = []
    for place in moving:
        there = here.copy()
        there[place] += STEP
        columns.append((residuals(there) - error) / STEP)
    return np.stack(columns, axis=1)
