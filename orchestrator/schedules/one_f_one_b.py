"""1F1B (PipeDream-Flush, DAPPLE): after a short warm-up, one forward, one backward.

The order Megatron-Core, DeepSpeed and torch execute, for any number of microbatches.
"""

import numpy as np

from orchestrator.schedules.codes import BACKWARD, FORWARD, Codes, Numbering, alternated


def order(numbering: Numbering, *, rank: int) -> Codes:
    """Return the codes of a pipeline rank as it executes them; stage and rank are one.

    One stage gives what Megatron runs without a pipeline: forward, backward, by microbatch.
    """
    microbatches = np.arange(numbering.num_microbatches, dtype=np.int64)
    return alternated(
        numbering.codes(FORWARD, rank, microbatches),
        numbering.codes(BACKWARD, rank, microbatches),
        warmup=warmup_forwards(
            pp=numbering.num_stages, num_microbatches=numbering.num_microbatches, rank=rank
        ),
    )


def warmup_forwards(*, pp: int, num_microbatches: int, rank: int) -> int:
    """Return how many forwards a rank runs before it alternates: one for each later rank."""
    return min(pp - rank - 1, num_microbatches)
