"""Interleaved 1F1B (Narayanan et al. 2021, arXiv 2104.04473, section 2.2) in Megatron's order.

Each rank holds `vpp` chunks of the model, so a microbatch passes every rank `vpp` times. Work
goes in groups: a rank takes `microbatch_group_size` microbatches through its first chunk, then
the same ones through its second, and so on. A group of pp is depth-first, a group of all
microbatches breadth-first; torch's Interleaved1F1B is group size m // max(1, m // pp).
"""

from collections.abc import Iterator

from orchestrator.schedules.actions import Action, ActionKind


def order(
    *, pp: int, vpp: int, num_microbatches: int, microbatch_group_size: int, rank: int
) -> Iterator[Action]:
    """Yield the actions of a pipeline rank as it executes them.

    Group sizes that `legal` refuses are generated too; their order may deadlock.
    """
    units = tuple(
        _units(
            vpp=vpp,
            num_microbatches=num_microbatches,
            microbatch_group_size=microbatch_group_size,
        )
    )
    # Backward visits the chunks in the opposite direction, the microbatches in the same.
    forwards = [
        Action(kind=ActionKind.FORWARD, stage=chunk * pp + rank, microbatch=microbatch)
        for microbatch, chunk in units
    ]
    backwards = [
        Action(kind=ActionKind.BACKWARD, stage=(vpp - 1 - chunk) * pp + rank, microbatch=microbatch)
        for microbatch, chunk in units
    ]
    warmup = warmup_forwards(
        pp=pp,
        vpp=vpp,
        num_microbatches=num_microbatches,
        microbatch_group_size=microbatch_group_size,
        rank=rank,
    )
    yield from forwards[:warmup]
    for forward, backward in zip(forwards[warmup:], backwards, strict=False):
        yield forward
        yield backward
    yield from backwards[len(units) - warmup :]


def warmup_forwards(
    *, pp: int, vpp: int, num_microbatches: int, microbatch_group_size: int, rank: int
) -> int:
    """Return how many forwards a rank runs before it alternates with backwards.

    All but the last chunk of the first group, and two for each later rank: one for the way
    there and one for the way back.
    """
    wanted = 2 * (pp - rank - 1) + (vpp - 1) * microbatch_group_size
    return min(wanted, vpp * num_microbatches)


def _units(
    *, vpp: int, num_microbatches: int, microbatch_group_size: int
) -> Iterator[tuple[int, int]]:
    """Yield (microbatch, chunk) in forward order; the last group may be smaller."""
    for first in range(0, num_microbatches, microbatch_group_size):
        end = min(first + microbatch_group_size, num_microbatches)
        for chunk in range(vpp):
            for microbatch in range(first, end):
                yield microbatch, chunk
