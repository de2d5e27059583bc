"""How far predictions are off, with every group of rows counting once."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.cost.compose import Array
from orchestrator.cost.rows.observation import Observation
from orchestrator.records.calibration import ErrorFigures

MERGED = ("bloom",)
"""Groups `name:...` of one machine and one campaign: held out together, one group in all."""

COVERED = 0.8
"""Share of measured steps that an interval is to hold."""

KINDS = ("dense H100", "dense A100", "dense Blackwell", "MoE")
"""The classes that goals are set for, in the order of tables."""

GOALS = {"dense H100": (5, 10), "dense A100": (7, 15), "dense Blackwell": (6, 12), "MoE": (12, 25)}
"""Goals for mean and 90th percentile of each class on held-out groups, percent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """Errors of some rows, in percent: predicted / measured - 1; `shares` within 5, 10, 15 %."""

    rows: int
    groups: int
    mean: float
    median: float
    p90: float
    bias: float
    worst: float
    within: tuple[float, float, float]


def group_of(observation: Observation) -> str:
    """Return the group that a row is held out with."""
    first = observation.group.split(":")[0]
    return first if first in MERGED else observation.group


def weights_of(observations: Sequence[Observation]) -> Array:
    """Return weights with which each group counts once within its class."""
    keys = [(one.kind, group_of(one)) for one in observations]
    counted = Counter(keys)
    return np.array([1 / counted[key] for key in keys])


def errors_of(observations: Sequence[Observation], predicted_s: Array) -> Errors:
    """Return the errors of rows, at least one, each group counting once."""
    measured = np.array([one.measured_s for one in observations])
    error = predicted_s / measured - 1
    weights = weights_of(observations)
    size = np.abs(error)
    total = float(weights.sum())
    within = [float(weights[size <= limit].sum()) / total for limit in (0.05, 0.10, 0.15)]
    return Errors(
        rows=len(error),
        groups=len({group_of(one) for one in observations}),
        mean=100 * float((size * weights).sum()) / total,
        median=100 * quantile(size, weights, 0.5),
        p90=100 * quantile(size, weights, 0.9),
        bias=100 * float((error * weights).sum()) / total,
        worst=100 * float(error[np.argmax(size)]),
        within=(within[0], within[1], within[2]),
    )


def figures_of(observations: Sequence[Observation], predicted_s: Array) -> ErrorFigures:
    """Return the errors of a class as a calibration keeps them."""
    errors = errors_of(observations, predicted_s)
    low, high = interval_of(observations, predicted_s)
    return ErrorFigures(
        rows=errors.rows,
        groups=errors.groups,
        mean_percent=errors.mean,
        p90_percent=errors.p90,
        low=low,
        high=high,
    )


def interval_of(observations: Sequence[Observation], predicted_s: Array) -> tuple[float, float]:
    """Return between which measured / predicted lies for 4 of 5 rows of a group not seen yet.

    1 / e^q and e^q, where q is the quantile of |log(measured / predicted)| of held-out rows at
    0.8 (G + 1) / G: of G groups, that counts the next one as wide as the widest (conformal
    prediction for rows in groups). Source: Dunn, Wasserman, Ramdas 2022, "Distribution-free
    prediction sets for two-layer hierarchical models", pooled. Assumed: groups to come are drawn
    as these were. Below 4 groups the level would pass 1: it is the widest row then.
    """
    measured = np.array([one.measured_s for one in observations])
    groups = len({group_of(one) for one in observations})
    level = min(1.0, COVERED * (groups + 1) / groups)
    off = quantile(np.abs(np.log(measured / predicted_s)), weights_of(observations), level)
    return math.exp(-off), math.exp(off)


def quantile(values: Array, weights: Array, share: float) -> float:
    """Return the value below which a share of the weight lies."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order]) / weights.sum()
    place = min(int(np.searchsorted(reached, share)), len(values) - 1)
    return float(values[order][place])
