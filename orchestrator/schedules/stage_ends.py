"""Layouts whose first or last pipeline rank holds a number of layers of its own.

Megatron's `num_layers_in_first_pipeline_stage` and `num_layers_in_last_pipeline_stage`: what is
left goes to the other ranks evenly, and each rank's layers to its chunks evenly.
"""

from orchestrator.errors import UsageError
from orchestrator.schedules.stages import Stage, StageLayout


def with_own_ends(
    num_layers: int,
    *,
    pp: int,
    vpp: int = 1,
    first: int | None = None,
    last: int | None = None,
    mtp_num_layers: int = 0,
) -> StageLayout:
    """Return the layout in which the first rank, the last or both say how many layers they hold.

    Raises:
        UsageError: the layers left do not divide by the ranks left, or a rank's by its chunks.
    """
    of_rank = _rank_layers(num_layers, pp=pp, first=first, last=last)
    for rank, layers in enumerate(of_rank):
        if layers % vpp:
            raise UsageError(
                problem=f"{layers} layers of rank {rank} do not divide into its {vpp} chunks",
                instead=f"{layers // vpp * vpp} or {-(-layers // vpp) * vpp} layers on that rank",
            )
    end = pp * vpp - 1
    return StageLayout(
        stages=tuple(
            Stage(
                has_embedding=stage == 0,
                decoder_layers=of_rank[stage % pp] // vpp,
                mtp_layers=mtp_num_layers if stage == end else 0,
                has_loss=stage == end,
            )
            for stage in range(pp * vpp)
        )
    )


def _rank_layers(
    num_layers: int, *, pp: int, first: int | None, last: int | None
) -> tuple[int, ...]:
    """Return the layers of each rank."""
    said = [layers for layers in (first, last) if layers is not None]
    if pp < len(said) or min(said, default=1) < 1:
        raise UsageError(
            problem=f"{pp} ranks cannot hold {said} layers on their ends",
            instead="at least one layer on an end, and a rank for each end",
        )
    ranks, left = pp - len(said), num_layers - sum(said)
    if left < 0 or (ranks == 0 and left) or (ranks and left % ranks):
        shared = max(0, round(left / max(1, ranks))) * ranks
        raise UsageError(
            problem=f"{left} layers are left for {ranks} ranks and do not divide",
            instead=f"ends that hold {num_layers - shared} layers in all",
        )
    middle = (left // ranks,) * ranks if ranks else ()
    return ((first,) if first is not None else ()) + middle + ((last,) if last is not None else ())
