"""Which pipeline rank holds which stage."""

from enum import StrEnum
from typing import assert_never

from orchestrator.specs.choices import ScheduleKind


class Placement(StrEnum):
    """How stages go over the ranks.

    `LOOP`: around, stage s on rank s % pp. `V`: there and back, so that the first and the last
    stage share rank 0 and the middle two share the last rank.
    """

    LOOP = "loop"
    V = "v"


def placement_of(kind: ScheduleKind) -> Placement:
    """Return how a schedule places its stages."""
    match kind:
        case ScheduleKind.ZB_V | ScheduleKind.DUAL_PIPE_V:
            return Placement.V
        case (
            ScheduleKind.NO_PIPELINE
            | ScheduleKind.ONE_F_ONE_B
            | ScheduleKind.INTERLEAVED
            | ScheduleKind.GPIPE
            | ScheduleKind.COMBINED
            | ScheduleKind.LOOPED_BFS
            | ScheduleKind.ZERO_BUBBLE
        ):
            return Placement.LOOP
        case _:
            assert_never(kind)


def rank_of(stage: int, *, pp: int, placement: Placement) -> int:
    """Return the pipeline rank that holds a stage."""
    place = stage % pp
    turned = placement is Placement.V and (stage // pp) % 2 == 1
    return pp - 1 - place if turned else place


def stages_of(rank: int, *, pp: int, vpp: int, placement: Placement) -> tuple[int, ...]:
    """Return the stages that a pipeline rank holds, its first chunk first."""
    return tuple(
        chunk * pp + (pp - 1 - rank if placement is Placement.V and chunk % 2 else rank)
        for chunk in range(vpp)
    )
