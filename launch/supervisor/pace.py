"""How long a rank may make no progress: from the times seen so far, within floor and ceiling.

A phase that a rank declares (start, save, evaluate) has a limit of its own, so a long checkpoint is
no hang. A limit is a multiple of the 95th percentile of the last times of that phase; before there
are enough of them it is the ceiling, and it is never below the floor.
"""

from collections import deque
from collections.abc import Mapping
from types import MappingProxyType

from launch.rank_lines import RankPhase
from launch.request import HangTerms

_KEPT = 64
_ENOUGH = 3
_HIGH = 0.95
# How many times the usual time; storage varies more than arithmetic.
_FACTORS: Mapping[RankPhase, float] = MappingProxyType(
    {RankPhase.TRAIN: 4.0, RankPhase.SAVE: 10.0, RankPhase.EVALUATE: 10.0}
)


class Pace:
    """The limits of each phase, which follow the times that are told."""

    def __init__(self, terms: HangTerms) -> None:
        self._terms = terms
        self._times = {phase: deque[float](maxlen=_KEPT) for phase in _FACTORS}
        self._limits: dict[RankPhase, float] = {}

    def took(self, phase: RankPhase, duration_s: float) -> None:
        """A step, a checkpoint or an evaluation took so long."""
        self._times[phase].append(duration_s)
        self._limits.pop(phase, None)

    def limit_s(self, phase: RankPhase) -> float:
        """How long a rank may stand still in a phase."""
        if phase not in self._limits:
            self._limits[phase] = self._limit_s(phase)
        return self._limits[phase]

    def most_s(self, phase: RankPhase) -> float:
        """The limit of a phase of which nothing is known."""
        return self._terms.ceiling_s if phase is RankPhase.TRAIN else self._terms.phase_s

    def _limit_s(self, phase: RankPhase) -> float:
        times = sorted(self._times.get(phase, ()))
        if len(times) < _ENOUGH:
            return self.most_s(phase)
        high = times[min(len(times) - 1, int(_HIGH * len(times)))]
        return min(self.most_s(phase), max(self._terms.floor_s, _FACTORS[phase] * high))
