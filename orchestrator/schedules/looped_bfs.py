"""Looped breadth-first (Lamy-Poirier 2023, arXiv 2211.05953), as torch's ScheduleLoopedBFS.

All microbatches through the first chunk, then through the second, and so on; backward visits
the chunks in the opposite direction, and there the microbatches too.
"""

import numpy as np

from orchestrator.schedules.codes import BACKWARD, FORWARD, Codes, Numbering


def order(numbering: Numbering, *, pp: int, rank: int) -> Codes:
    """Return the codes of a pipeline rank."""
    place = np.arange(numbering.num_stages // pp * numbering.num_microbatches, dtype=np.int64)
    chunks, microbatches = place // numbering.num_microbatches, place % numbering.num_microbatches
    stages = chunks * pp + rank
    return np.concatenate(
        [
            numbering.codes(FORWARD, stages, microbatches),
            numbering.codes(BACKWARD, stages, microbatches)[::-1],
        ]
    )
