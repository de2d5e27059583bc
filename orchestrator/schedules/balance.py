"""The layout of layers on stages that makes the step shortest, by exact simulation.

An even split is not it where the vocabulary makes the last stage heavy, layers are of several
kinds, prediction layers join, or the first ranks lack memory for their activations. The search
begins with the split whose heaviest stage is lightest and improves it layer by layer; then it
looks through all layouts that a lower bound does not rule out, as long as its budget lasts. The
answer says which of the two it is: proven, or the best that was found, and how far from the bound
it can be at most.
"""

from dataclasses import dataclass

from orchestrator.errors import UsageError
from orchestrator.schedules import balance_search
from orchestrator.schedules.balance_search import Counts, Problem
from orchestrator.schedules.evaluate import Evaluator
from orchestrator.schedules.memory import StageMemory
from orchestrator.schedules.placement import Placement, placement_of
from orchestrator.schedules.schedule import build
from orchestrator.schedules.stages import Stage, StageLayout
from orchestrator.schedules.times import StageTimes
from orchestrator.specs.choices import ScheduleKind

DEFAULT_BUDGET = 20_000
"""Layouts that are simulated at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """What one layer, or an end of the model, costs for one microbatch; states are for a rank."""

    forward_ns: int = 0
    backward_ns: int = 0
    activation_bytes: int = 0
    state_bytes: int = 0

    @property
    def time_ns(self) -> int:
        """Both ways."""
        return self.forward_ns + self.backward_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """A model cut into pieces; prediction layers (`mtp`) stay together."""

    embedding: Piece
    layers: tuple[Piece, ...]
    loss: Piece
    mtp: tuple[Piece, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """The layout found; no layout has a makespan below `bound_ns`, of an optimum its own."""

    layout: StageLayout
    makespan_ns: int
    bound_ns: int
    peak_bytes: tuple[int, ...]
    simulated: int

    @property
    def is_proven(self) -> bool:
        """Whether no layout is shorter."""
        return self.makespan_ns == self.bound_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """The schedule that a layout is sought for; `memory_bytes` is what a rank may hold."""

    kind: ScheduleKind
    pp: int
    vpp: int
    num_microbatches: int
    microbatch_group_size: int
    latency_ns: int = 0
    memory_bytes: int | None = None

    @property
    def num_stages(self) -> int:
        """Virtual pipeline stages."""
        return self.pp * self.vpp


def balanced(pieces: Pieces, *, pipeline: Pipeline, budget: int = DEFAULT_BUDGET) -> Balance:
    """Return the layout with the shortest step that fits in memory.

    Raises:
        UsageError: engines refuse the schedule, or no layout that was tried fits in memory.
    """
    schedule = build(
        pipeline.kind,
        pp=pipeline.pp,
        vpp=pipeline.vpp,
        num_microbatches=pipeline.num_microbatches,
        microbatch_group_size=pipeline.microbatch_group_size,
    )
    judge = _Judge(pieces, pipeline, Evaluator(schedule))
    found = balance_search.search(_problem(pieces, pipeline), judge=judge, budget=budget)
    if found is None:
        raise UsageError(
            problem=f"no layout of {judge.simulated} tried fits: the leanest needs "
            f"{judge.leanest_bytes:,} bytes on its fullest rank, there are "
            f"{pipeline.memory_bytes:,}",
            instead="more pipeline ranks, fewer chunks, or recomputation",
        )
    return Balance(
        layout=_layout(found.counts, pieces),
        makespan_ns=found.makespan_ns,
        bound_ns=found.bound_ns,
        peak_bytes=judge.peaks(found.counts),
        simulated=judge.simulated,
    )


def _problem(pieces: Pieces, pipeline: Pipeline) -> Problem:
    is_split = pipeline.kind in {
        ScheduleKind.ZERO_BUBBLE,
        ScheduleKind.ZB_V,
        ScheduleKind.DUAL_PIPE_V,
    }

    def through_ns(piece: Piece) -> int:
        return piece.forward_ns if is_split else piece.time_ns

    return Problem(
        layer_ns=tuple(piece.time_ns for piece in pieces.layers),
        layer_through_ns=tuple(map(through_ns, pieces.layers)),
        first_ns=pieces.embedding.time_ns,
        first_through_ns=through_ns(pieces.embedding),
        last_ns=pieces.loss.time_ns,
        mtp_ns=sum(piece.time_ns for piece in pieces.mtp),
        has_mtp=bool(pieces.mtp),
        pp=pipeline.pp,
        num_stages=pipeline.num_stages,
        num_microbatches=pipeline.num_microbatches,
        hop_ns=pipeline.latency_ns if is_split else 2 * pipeline.latency_ns,
        is_v=placement_of(pipeline.kind) is Placement.V,
    )


class _Judge:
    """Says what a layout costs: its makespan, or None where it does not fit in memory."""

    def __init__(self, pieces: Pieces, pipeline: Pipeline, evaluator: Evaluator) -> None:
        self.pieces, self.pipeline, self.evaluator = pieces, pipeline, evaluator
        self.simulated = 0
        self.leanest_bytes = 0

    def makespan_ns(self, counts: Counts, *, below_ns: int | None) -> int | None:
        """Return the makespan of a layout if it is below a limit and fits."""
        self.simulated += 1
        held = self._held(counts)
        makespan_ns = self.evaluator.makespan_ns(
            StageTimes(
                forward_ns=tuple(sum(one.forward_ns for one in row) for row in held),
                backward_ns=tuple(sum(one.backward_ns for one in row) for row in held),
                latency_ns=self.pipeline.latency_ns,
            )
        )
        if below_ns is not None and makespan_ns >= below_ns:
            return None
        return makespan_ns if self._fits(counts) else None

    def peaks(self, counts: Counts) -> tuple[int, ...]:
        """Return the bytes on each rank at its peak."""
        held = self._held(counts)
        schedule = self.evaluator.schedule
        activations = self.evaluator.peak_bytes(
            StageMemory(
                activation_bytes=tuple(sum(one.activation_bytes for one in row) for row in held)
            )
        )
        return tuple(
            activation
            + sum(one.state_bytes for stage in schedule.stages_of(rank) for one in held[stage])
            for rank, activation in enumerate(activations)
        )

    def _fits(self, counts: Counts) -> bool:
        if self.pipeline.memory_bytes is None:
            return True
        most = max(self.peaks(counts))
        self.leanest_bytes = min(self.leanest_bytes or most, most)
        return most <= self.pipeline.memory_bytes

    def _held(self, counts: Counts) -> list[list[Piece]]:
        return _held(counts, self.pieces)


def _held(counts: Counts, pieces: Pieces) -> list[list[Piece]]:
    """Return the pieces on each stage."""
    rows: list[list[Piece]] = []
    place = 0
    for count in counts.layers:
        rows.append(list(pieces.layers[place : place + count]))
        place += count
    rows[0].insert(0, pieces.embedding)
    rows[counts.mtp_stage].extend(pieces.mtp)
    rows[-1].append(pieces.loss)
    return rows


def _layout(counts: Counts, pieces: Pieces) -> StageLayout:
    last = len(counts.layers) - 1
    return StageLayout(
        stages=tuple(
            Stage(
                has_embedding=stage == 0,
                decoder_layers=count,
                mtp_layers=len(pieces.mtp) if stage == counts.mtp_stage else 0,
                has_loss=stage == last,
            )
            for stage, count in enumerate(counts.layers)
        )
    )
