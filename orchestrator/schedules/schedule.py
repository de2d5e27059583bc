"""A whole schedule: the order of actions on every pipeline rank."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import assert_never

from orchestrator.errors import UsageError
from orchestrator.schedules import interleaved, legal, one_f_one_b
from orchestrator.schedules.actions import Action
from orchestrator.specs.choices import ScheduleKind

MAX_ACTIONS = 10_000_000
"""More would not fit in a laptop's memory: about 100 bytes an action."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The actions of each pipeline rank in execution order.

    Rank s % pp runs stage s. `microbatch_group_size` has no meaning without interleaving.
    """

    kind: ScheduleKind
    pp: int
    vpp: int
    num_microbatches: int
    microbatch_group_size: int
    orders: tuple[tuple[Action, ...], ...]

    @property
    def num_stages(self) -> int:
        """Virtual pipeline stages: pp x vpp."""
        return self.pp * self.vpp

    @property
    def num_actions(self) -> int:
        """Actions of all ranks together."""
        return sum(len(order) for order in self.orders)

    def rank_of(self, stage: int) -> int:
        """Return the pipeline rank that holds a stage."""
        return stage % self.pp

    def stages_of(self, rank: int) -> range:
        """Return the stages that a pipeline rank holds, its first chunk first."""
        return range(rank, self.num_stages, self.pp)


def build(
    kind: ScheduleKind, *, pp: int, vpp: int, num_microbatches: int, microbatch_group_size: int
) -> Schedule:
    """Return a schedule that the engines run.

    Raises:
        UsageError: the engines refuse it (`legal.refusal`), or it is too large to hold.
    """
    refused = legal.refusal(
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

    def order(rank: int) -> Iterator[Action]:
        match kind:
            case ScheduleKind.NO_PIPELINE | ScheduleKind.ONE_F_ONE_B:
                return one_f_one_b.order(pp=pp, num_microbatches=num_microbatches, rank=rank)
            case ScheduleKind.INTERLEAVED:
                return interleaved.order(
                    pp=pp,
                    vpp=vpp,
                    num_microbatches=num_microbatches,
                    microbatch_group_size=microbatch_group_size,
                    rank=rank,
                )
            case _:
                assert_never(kind)

    return Schedule(
        kind=kind,
        pp=pp,
        vpp=vpp,
        num_microbatches=num_microbatches,
        microbatch_group_size=microbatch_group_size,
        orders=tuple(tuple(order(rank)) for rank in range(pp)),
    )
