"""GPipe (Huang et al. 2019, arXiv 1811.06965): all forwards, then all backwards.

As torch's ScheduleGPipe executes it: backwards in the order of the forwards.
"""

import numpy as np

from orchestrator.schedules.codes import BACKWARD, FORWARD, Codes, Numbering


def order(numbering: Numbering, *, rank: int) -> Codes:
    """Return the codes of a pipeline rank; stage and rank are one."""
    microbatches = np.arange(numbering.num_microbatches, dtype=np.int64)
    return np.concatenate(
        [
            numbering.codes(FORWARD, rank, microbatches),
            numbering.codes(BACKWARD, rank, microbatches),
        ]
    )
