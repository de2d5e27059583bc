"""Interleaved 1F1B in which forward and backward of the steady state share a slot.

Megatron-Core runs it to hide the all-to-all of experts behind the other pass
(`--overlap-moe-expert-parallel-comm`). It warms up by one forward more than interleaved 1F1B:
without that the two passes of a slot would wait for each other around the ranks for ever.
"""

import numpy as np

from orchestrator.schedules import interleaved
from orchestrator.schedules.codes import Codes, Numbering, all_overlapped


def order(numbering: Numbering, *, pp: int, group: int, rank: int) -> Codes:
    """Return the codes of a pipeline rank as it executes them."""
    forwards, backwards = interleaved.passes(numbering, pp=pp, group=group, rank=rank)
    warmup = warmup_forwards(
        pp=pp,
        vpp=numbering.num_stages // pp,
        num_microbatches=numbering.num_microbatches,
        microbatch_group_size=group,
        rank=rank,
    )
    rest = len(forwards) - warmup
    return np.concatenate(
        [
            forwards[:warmup],
            all_overlapped(forwards[warmup:], backwards[:rest]),
            backwards[rest:],
        ]
    )


def warmup_forwards(
    *, pp: int, vpp: int, num_microbatches: int, microbatch_group_size: int, rank: int
) -> int:
    """Return how many forwards a rank runs alone: one more than interleaved 1F1B."""
    wanted = 2 * (pp - rank - 1) + (vpp - 1) * microbatch_group_size + 1
    return min(wanted, vpp * num_microbatches)
