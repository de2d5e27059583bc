"""Interleaved 1F1B (Narayanan et al. 2021, arXiv 2104.04473, section 2.2) in Megatron's order.

Each rank holds `vpp` chunks of the model, so a microbatch passes every rank `vpp` times. Work
goes in groups: a rank takes `group` microbatches through its first chunk, then the same ones
through its second, and so on. A group of pp is depth-first, a group of all microbatches
breadth-first; torch's Interleaved1F1B is group size m // max(1, m // pp).
"""

import numpy as np

from orchestrator.schedules.codes import BACKWARD, FORWARD, Codes, Numbering, alternated


def order(numbering: Numbering, *, pp: int, group: int, rank: int) -> Codes:
    """Return the codes of a pipeline rank as it executes them.

    Group sizes that `legal` refuses are generated too; their order may deadlock.
    """
    forwards, backwards = passes(numbering, pp=pp, group=group, rank=rank)
    warmup = warmup_forwards(
        pp=pp,
        vpp=numbering.num_stages // pp,
        num_microbatches=numbering.num_microbatches,
        microbatch_group_size=group,
        rank=rank,
    )
    return alternated(forwards, backwards, warmup=warmup)


def passes(
    numbering: Numbering, *, pp: int, group: int, rank: int, backward: int = BACKWARD
) -> tuple[Codes, Codes]:
    """Return the forwards and the backwards of a rank, each in its order.

    Backward visits the chunks in the opposite direction, the microbatches in the same.
    """
    vpp = numbering.num_stages // pp
    microbatches, chunks = units(
        vpp=vpp, num_microbatches=numbering.num_microbatches, microbatch_group_size=group
    )
    return (
        numbering.codes(FORWARD, chunks * pp + rank, microbatches),
        numbering.codes(backward, (vpp - 1 - chunks) * pp + rank, microbatches),
    )


def warmup_forwards(
    *, pp: int, vpp: int, num_microbatches: int, microbatch_group_size: int, rank: int
) -> int:
    """Return how many forwards a rank runs before it alternates with backwards.

    All but the last chunk of the first group, and two for each later rank: one for the way
    there and one for the way back.
    """
    wanted = 2 * (pp - rank - 1) + (vpp - 1) * microbatch_group_size
    return min(wanted, vpp * num_microbatches)


def units(*, vpp: int, num_microbatches: int, microbatch_group_size: int) -> tuple[Codes, Codes]:
    """Return the microbatch and the chunk of each forward; the last group may be smaller."""
    size = min(microbatch_group_size, num_microbatches)
    num_whole, rest = divmod(num_microbatches, size)
    place = np.arange(num_whole * vpp * size, dtype=np.int64)
    groups, within = place // (vpp * size), place % (vpp * size)
    microbatches, chunks = groups * size + within % size, within // size
    if rest:
        last = np.arange(vpp * rest, dtype=np.int64)
        microbatches = np.concatenate([microbatches, num_whole * size + last % rest])
        chunks = np.concatenate([chunks, last // rest])
    return microbatches, chunks
