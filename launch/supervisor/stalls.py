"""Hangs: ranks that are alive and make no progress, by their marks, lines and declared phases.

A rank makes progress when it makes a mark, ends a step or enters a phase. It hangs when it has made
none for longer than the limit of the phase it is in; while any rank is in a declared phase, the
others may be waiting for it and have the same patience. A host whose beats do not arrive says
nothing about its ranks: that is another fault. Time is told, never asked.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from launch.rank_lines import (
    CheckpointLine,
    EvaluationLine,
    PhaseLine,
    RankLineRecord,
    RankPhase,
    StepLine,
)
from launch.request import HangTerms
from launch.supervisor.guilt import Blame, Stand, blame
from launch.supervisor.pace import Pace
from launch.wire import Beat, RankBeat


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall:
    """A hang: for how long, past which limit, and who is to blame."""

    stalled_s: float
    limit_s: float
    phase: RankPhase
    blame: Blame


@dataclass(slots=True)
class _Rank:
    """What a rank has said; `said_at_s` is when it last said something."""

    said_at_s: float
    phase: RankPhase = RankPhase.START
    has_stepped: bool = False


class Stalls:
    """Follows the ranks of one generation after another."""

    def __init__(self, terms: HangTerms) -> None:
        self._pace = Pace(terms)
        self._ranks: dict[int, _Rank] = {}
        self._beats: dict[int, Beat] = {}
        self._declared: dict[RankPhase, int] = {}

    def begin(self, num_ranks: int, *, at_s: float) -> None:
        """A generation starts; what the last one took is still known."""
        self._ranks = {rank: _Rank(at_s) for rank in range(num_ranks)}
        self._beats.clear()
        self._declared = {RankPhase.START: num_ranks}

    def said(self, number: int, line: RankLineRecord, *, at_s: float) -> None:
        """A rank said something: that is progress."""
        rank = self._ranks.get(number)
        if rank is None:
            return
        rank.said_at_s = at_s
        match line:
            case PhaseLine():
                self._enter(rank, line.phase)
            case StepLine():
                if rank.has_stepped:  # the first one of a generation makes connections, too
                    self._pace.took(RankPhase.TRAIN, line.duration_s)
                rank.has_stepped = True
                self._enter(rank, RankPhase.TRAIN)
            case CheckpointLine():
                self._pace.took(RankPhase.SAVE, line.duration_s)
            case EvaluationLine():
                self._pace.took(RankPhase.EVALUATE, line.duration_s)
            case _:
                self._enter(rank, RankPhase.LEAVE)  # finished, left, refused: it will end

    def ended(self, number: int) -> None:
        """A rank is gone: it cannot hang."""
        rank = self._ranks.pop(number, None)
        if rank is not None:
            self._declared[rank.phase] -= 1

    def beat(self, agent_id: int, beat: Beat, *, at_s: float) -> Stall | None:
        """An agent says where its ranks stand; the hang that this shows, if any."""
        self._beats[agent_id] = beat
        for told in beat.ranks:
            rank = self._ranks.get(told.rank)
            if rank is None:
                continue
            stalled_s = _stalled_s(told, rank, at_s)
            phase = self._patience(rank)
            limit_s = self._pace.limit_s(phase)
            if phase is RankPhase.TRAIN and not rank.has_stepped:
                limit_s = self._pace.most_s(phase)
            if stalled_s > limit_s:
                return Stall(
                    stalled_s=stalled_s,
                    limit_s=limit_s,
                    phase=phase,
                    blame=blame(self._stands()),
                )
        return None

    def _enter(self, rank: _Rank, phase: RankPhase) -> None:
        self._declared[rank.phase] -= 1
        self._declared[phase] = self._declared.get(phase, 0) + 1
        rank.phase = phase

    def _patience(self, rank: _Rank) -> RankPhase:
        """The phase whose limit a rank has: its own, or that of one it may be waiting for."""
        if rank.phase is not RankPhase.TRAIN:
            return rank.phase
        others = (phase for phase, count in self._declared.items() if count)
        return max(others, key=self._pace.limit_s, default=rank.phase)

    def _stands(self) -> Iterator[Stand]:
        for beat in self._beats.values():
            for told in beat.ranks:
                if told.rank in self._ranks:
                    yield _stand(told)


def _stalled_s(told: RankBeat, rank: _Rank, at_s: float) -> float:
    since_said_s = at_s - rank.said_at_s
    return since_said_s if told.mark_age_s is None else min(since_said_s, told.mark_age_s)


def _stand(told: RankBeat) -> Stand:
    return Stand(
        rank=told.rank,
        seq=told.seq,
        step=told.step,
        label=told.label,
        counts=_counts(told.groups or ()),
        process_state=told.state,
    )


def _counts(flat: tuple[int, ...]) -> Mapping[int, int]:
    return dict(zip(flat[::2], flat[1::2], strict=False))
