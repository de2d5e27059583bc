"""A whole schedule: the order of actions on every pipeline rank."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import assert_never

from orchestrator.errors import UsageError
from orchestrator.schedules import (
    combined,
    dualpipe_v,
    gpipe,
    interleaved,
    legal,
    looped_bfs,
    one_f_one_b,
    zb_v,
    zero_bubble,
)
from orchestrator.schedules import placement as placements
from orchestrator.schedules.actions import Step
from orchestrator.schedules.codes import Codes, Numbering, array_of
from orchestrator.schedules.engines import PipelineEngine, engines_of
from orchestrator.schedules.placement import Placement
from orchestrator.specs.choices import ScheduleKind

MAX_ACTIONS = 10_000_000
"""More would not fit in a laptop's memory: about 200 bytes an action while it is simulated."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Schedule:
    """The actions of each pipeline rank in execution order, as `codes`; `order` spells them.

    `microbatch_group_size` has no meaning where work does not go in groups.
    """

    kind: ScheduleKind
    pp: int
    vpp: int
    num_microbatches: int
    microbatch_group_size: int
    codes: tuple[Codes, ...]

    @property
    def num_stages(self) -> int:
        """Virtual pipeline stages: pp x vpp."""
        return self.pp * self.vpp

    @property
    def num_actions(self) -> int:
        """Slots of all ranks together; an overlapped pair is one."""
        return sum(len(codes) for codes in self.codes)

    @property
    def numbering(self) -> Numbering:
        """What the codes mean."""
        return Numbering(num_stages=self.num_stages, num_microbatches=self.num_microbatches)

    @property
    def placement(self) -> Placement:
        """How the stages go over the ranks."""
        return placements.placement_of(self.kind)

    @property
    def orders(self) -> tuple[tuple[Step, ...], ...]:
        """What each rank does, slot by slot."""
        return tuple(self.order(rank) for rank in range(self.pp))

    def order(self, rank: int) -> tuple[Step, ...]:
        """Return what one rank does, slot by slot."""
        return tuple(map(self.numbering.step_of, self.codes[rank].tolist()))

    def rank_of(self, stage: int) -> int:
        """Return the pipeline rank that holds a stage."""
        return placements.rank_of(stage, pp=self.pp, placement=self.placement)

    def stages_of(self, rank: int) -> tuple[int, ...]:
        """Return the stages that a pipeline rank holds, its first chunk first."""
        return placements.stages_of(rank, pp=self.pp, vpp=self.vpp, placement=self.placement)


def build(
    kind: ScheduleKind,
    *,
    pp: int,
    vpp: int,
    num_microbatches: int,
    microbatch_group_size: int,
    engine: PipelineEngine | None = None,
) -> Schedule:
    """Return a schedule that an engine runs: the one said, else the one that usually does.

    Raises:
        UsageError: the engine refuses it (`legal.refusal_by`), or it is too large to hold.
    """
    refused = legal.refusal_by(
        engine or engines_of(kind)[0],
        kind,
        pp=pp,
        vpp=vpp,
        num_microbatches=num_microbatches,
        microbatch_group_size=microbatch_group_size,
    )
    if refused is not None:
        raise UsageError(problem=refused.reason, instead=refused.possible)
    num_actions = 2 * pp * vpp * num_microbatches
    if num_actions > MAX_ACTIONS:
        raise UsageError(
            problem=f"a schedule of {num_actions:,} actions is more than {MAX_ACTIONS:,}",
            instead="fewer microbatches show the same pattern",
        )
    return arranged(
        kind,
        pp=pp,
        vpp=vpp,
        num_microbatches=num_microbatches,
        microbatch_group_size=microbatch_group_size,
    )


def arranged(
    kind: ScheduleKind, *, pp: int, vpp: int, num_microbatches: int, microbatch_group_size: int
) -> Schedule:
    """Return a schedule without asking whether engines take it; simulation tells if it runs."""
    numbering = Numbering(num_stages=pp * vpp, num_microbatches=num_microbatches)
    return Schedule(
        kind=kind,
        pp=pp,
        vpp=vpp,
        num_microbatches=num_microbatches,
        microbatch_group_size=microbatch_group_size,
        codes=tuple(
            _codes(kind, numbering, pp=pp, group=microbatch_group_size, rank=rank)
            for rank in range(pp)
        ),
    )


def rewritten(schedule: Schedule, orders: Sequence[Iterable[Step]]) -> Schedule:
    """Return a schedule of the same sizes in which the ranks do `orders` instead.

    Raises:
        UsageError: a stage or a microbatch does not exist.
    """
    numbering = schedule.numbering
    return replace(
        schedule, codes=tuple(array_of(map(numbering.code_of, order)) for order in orders)
    )


def _codes(  # noqa: C901, PLR0911  a line for each schedule
    kind: ScheduleKind, numbering: Numbering, *, pp: int, group: int, rank: int
) -> Codes:
    match kind:
        case ScheduleKind.NO_PIPELINE | ScheduleKind.ONE_F_ONE_B:
            return one_f_one_b.order(numbering, rank=rank)
        case ScheduleKind.INTERLEAVED:
            return interleaved.order(numbering, pp=pp, group=group, rank=rank)
        case ScheduleKind.GPIPE:
            return gpipe.order(numbering, rank=rank)
        case ScheduleKind.COMBINED:
            return combined.order(numbering, pp=pp, group=group, rank=rank)
        case ScheduleKind.LOOPED_BFS:
            return looped_bfs.order(numbering, pp=pp, rank=rank)
        case ScheduleKind.ZERO_BUBBLE:
            return zero_bubble.order(numbering, pp=pp, group=group, rank=rank)
        case ScheduleKind.ZB_V:
            return zb_v.order(numbering, pp=pp, rank=rank)
        case ScheduleKind.DUAL_PIPE_V:
            return dualpipe_v.order(numbering, pp=pp, rank=rank)
        case _:
            assert_never(kind)
