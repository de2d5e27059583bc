"""The search of `balance`: from a good layout downhill, then through all that a bound allows.

The bound, with P(r) the time through all stages before r, hops included, L(r) the time of all
stages of rank r and m microbatches: no layout is shorter than

    max over ranks r of  P(r) + m L(r)

as rank r starts when a microbatch has come through the stages before it, then works m times on
each of its own, and the last gradient goes back through those before. Where backwards are split
the last work of a rank may be a weight gradient, which goes nowhere: P is then one way.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

NODES_PER_LAYOUT = 50
"""Beginnings of layouts that are looked at, for each that may be simulated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Decoder layers of each stage, and the stage that holds the prediction layers."""

    layers: tuple[int, ...]
    mtp_stage: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Times of one microbatch, in nanoseconds, and the shape of the pipeline.

    `layer_ns`, `first_ns`, `last_ns` and `mtp_ns` are work; `layer_through_ns`,
    `first_through_ns` and `hop_ns` what others wait for: both ways, or forward alone.
    """

    layer_ns: tuple[int, ...]
    layer_through_ns: tuple[int, ...]
    first_ns: int
    first_through_ns: int
    last_ns: int
    mtp_ns: int
    has_mtp: bool
    pp: int
    num_stages: int
    num_microbatches: int
    hop_ns: int
    is_v: bool

    def rank_of(self, stage: int) -> int:
        """Return the rank of a stage."""
        chunk, place = divmod(stage, self.pp)
        return self.pp - 1 - place if self.is_v and chunk % 2 else place


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The best layout and what no layout goes below."""

    counts: Counts
    makespan_ns: int
    bound_ns: int


class Judge(Protocol):
    """Says what a layout costs."""

    simulated: int

    def makespan_ns(self, counts: Counts, *, below_ns: int | None) -> int | None:
        """Return the makespan of a layout if it is below a limit and fits in memory."""


def search(problem: Problem, *, judge: Judge, budget: int) -> Found | None:
    """Return the best layout within a budget of simulations, None where none fits in memory."""
    hunt = _Hunt(problem, judge=judge, budget=budget)
    for seed in _seeds(problem):
        hunt.downhill(seed)
    is_complete = hunt.through_all()
    if hunt.best is None or hunt.best_ns is None:
        return None
    bound_ns = hunt.best_ns if is_complete else min(hunt.best_ns, _floor_ns(problem))
    return Found(counts=hunt.best, makespan_ns=hunt.best_ns, bound_ns=bound_ns)


class _Hunt:
    def __init__(self, problem: Problem, *, judge: Judge, budget: int) -> None:
        self.problem, self.judge, self.budget = problem, judge, budget
        self.best: Counts | None = None
        self.best_ns: int | None = None
        self.work_ns = (0, *accumulate(problem.layer_ns))
        self.through_ns = (0, *accumulate(problem.layer_through_ns))
        self.seen: set[Counts] = set()
        self.nodes = 0

    def downhill(self, counts: Counts) -> None:
        """Move one layer at a time, as long as that helps; half the budget at most."""
        self.try_out(counts)
        at = self.best or counts
        moved = True
        while moved and self.judge.simulated < self.budget // 2:
            moved = False
            for neighbour in _neighbours(at, self.problem):
                if self.judge.simulated >= self.budget // 2:
                    return
                if self.try_out(neighbour):
                    at, moved = neighbour, True
                    break

    def try_out(self, counts: Counts) -> bool:
        """Return whether a layout is better than the best so far; it is the best then."""
        if counts in self.seen:
            return False
        self.seen.add(counts)
        makespan_ns = self.judge.makespan_ns(counts, below_ns=self.best_ns)
        if makespan_ns is None:
            return False
        self.best, self.best_ns = counts, makespan_ns
        return True

    def through_all(self) -> bool:
        """Try every layout that may be better; return whether the budget lasted."""
        return all(
            self._place(_Branch.root(self.problem), mtp_stage)
            for mtp_stage in _mtp_stages(self.problem)
        )

    def _place(self, branch: "_Branch", mtp_stage: int) -> bool:
        """Try all layouts that begin like a branch; return whether the budget lasted."""
        self.nodes += 1
        if self.judge.simulated >= self.budget or self.nodes >= NODES_PER_LAYOUT * self.budget:
            return False
        stage, left = len(branch.layers), len(self.problem.layer_ns) - branch.placed
        if stage == self.problem.num_stages:
            self.try_out(Counts(layers=branch.layers, mtp_stage=mtp_stage))
            return True
        is_last = stage == self.problem.num_stages - 1
        most = 0 if self.problem.has_mtp and stage > mtp_stage else left
        for count in range(left if is_last else 0, most + 1):
            grown = self._grown(branch, count, mtp_stage)
            if self._is_too_heavy(grown, self.problem.rank_of(stage)):
                return True  # with more layers it is heavier still
            if self._leaves_too_much(grown, mtp_stage):
                continue
            if not self._place(grown, mtp_stage):
                return False
        return True

    def _grown(self, branch: "_Branch", count: int, mtp_stage: int) -> "_Branch":
        """Return a branch with one stage more."""
        stage, rank = len(branch.layers), self.problem.rank_of(len(branch.layers))
        placed = branch.placed + count
        loads_ns = list(branch.loads_ns)
        loads_ns[rank] += self.work_ns[placed] - self.work_ns[branch.placed]
        loads_ns[rank] += self._ends_ns(stage, mtp_stage)
        through_ns = self.problem.first_through_ns + self.through_ns[placed]
        waits_ns = list(branch.waits_ns)
        if stage + 1 < self.problem.pp:
            waits_ns[stage + 1 :] = [through_ns + (stage + 1) * self.problem.hop_ns] * (
                self.problem.pp - stage - 1
            )
        return _Branch(
            layers=(*branch.layers, count),
            placed=placed,
            loads_ns=tuple(loads_ns),
            waits_ns=tuple(waits_ns),
        )

    def _ends_ns(self, stage: int, mtp_stage: int) -> int:
        problem = self.problem
        total = problem.first_ns if stage == 0 else 0
        total += problem.last_ns if stage == problem.num_stages - 1 else 0
        return total + (problem.mtp_ns if stage == mtp_stage else 0)

    def _room_ns(self, branch: "_Branch", rank: int) -> int:
        """Return how much more a rank may have to do in a layout better than the best."""
        assert self.best_ns is not None  # noqa: S101  asked after the first layout that fits
        limit_ns = (self.best_ns - 1 - branch.waits_ns[rank]) // self.problem.num_microbatches
        return limit_ns - branch.loads_ns[rank]

    def _is_too_heavy(self, branch: "_Branch", rank: int) -> bool:
        return self.best_ns is not None and self._room_ns(branch, rank) < 0

    def _leaves_too_much(self, branch: "_Branch", mtp_stage: int) -> bool:
        """Return whether the ranks with stages to come have no room for what is left."""
        if self.best_ns is None:
            return False
        ahead = range(len(branch.layers), self.problem.num_stages)
        left_ns = self.work_ns[-1] - self.work_ns[branch.placed]
        left_ns += sum(self._ends_ns(stage, mtp_stage) for stage in ahead)
        ranks = {self.problem.rank_of(stage) for stage in ahead}
        return left_ns > sum(max(0, self._room_ns(branch, rank)) for rank in ranks)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Branch:
    """The first stages of a layout: their layers, each rank's work, and what it waits at least."""

    layers: tuple[int, ...]
    placed: int
    loads_ns: tuple[int, ...]
    waits_ns: tuple[int, ...]

    @classmethod
    def root(cls, problem: Problem) -> "_Branch":
        """Return the branch with no stage."""
        none = (0,) * problem.pp
        return cls(layers=(), placed=0, loads_ns=none, waits_ns=none)


def _floor_ns(problem: Problem) -> int:
    """Return a time that no layout goes below: the work shared evenly."""
    work_ns = sum(problem.layer_ns) + problem.first_ns + problem.last_ns + problem.mtp_ns
    return problem.num_microbatches * -(-work_ns // problem.pp)


def _mtp_stages(problem: Problem) -> Iterator[int]:
    """Yield where the prediction layers may stand: in the last chunk of a rank, last first."""
    last = problem.num_stages - 1
    if not problem.has_mtp:
        yield last
        return
    yield from range(last, last - problem.pp, -1)


def _seeds(problem: Problem) -> Iterator[Counts]:
    """Yield layouts to begin with: as light as the heaviest stage can be made."""
    for mtp_stage in _mtp_stages(problem):
        counts = _lightest(problem, mtp_stage)
        if counts is not None:
            yield Counts(layers=counts, mtp_stage=mtp_stage)


def _lightest(problem: Problem, mtp_stage: int) -> tuple[int, ...] | None:
    """Return the split whose heaviest stage is lightest, by halving the limit."""
    ends = [0] * problem.num_stages
    ends[0] += problem.first_ns
    ends[-1] += problem.last_ns
    ends[mtp_stage] += problem.mtp_ns
    usable = mtp_stage + 1 if problem.has_mtp else problem.num_stages
    low, high = max(ends), sum(problem.layer_ns) + sum(ends)
    best = None
    while low <= high:
        limit = (low + high) // 2
        counts = _filled(problem.layer_ns, ends, limit=limit, usable=usable)
        if counts is None:
            low = limit + 1
        else:
            best, high = counts, limit - 1
    return best


def _filled(
    layer_ns: tuple[int, ...], ends: list[int], *, limit: int, usable: int
) -> tuple[int, ...] | None:
    """Return stages filled up to a limit one after the other, None where layers are left over."""
    counts, place = [0] * len(ends), 0
    for stage in range(usable):
        room = limit - ends[stage]
        while place < len(layer_ns) and layer_ns[place] <= room:
            room -= layer_ns[place]
            counts[stage] += 1
            place += 1
    return tuple(counts) if place == len(layer_ns) else None


def _neighbours(counts: Counts, problem: Problem) -> Iterator[Counts]:
    """Yield layouts with one layer fewer on one stage and one more on another, near ones first."""
    usable = counts.mtp_stage + 1 if problem.has_mtp else problem.num_stages
    for distance in range(1, usable):
        for giver in range(usable):
            for taker in (giver - distance, giver + distance):
                if 0 <= taker < usable and counts.layers[giver]:
                    layers = list(counts.layers)
                    layers[giver] -= 1
                    layers[taker] += 1
                    yield Counts(layers=tuple(layers), mtp_stage=counts.mtp_stage)
