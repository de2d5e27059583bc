"""ZB-V (Qi et al. 2024, arXiv 2401.10241, section 6), as torch's ScheduleZBVZeroBubble.

Two chunks a rank, there and back: the first and the last stage share rank 0, so the loss's
gradient turns round at once. The table is fixed for F, I and W of equal time; it is laid out for
at least 2 pp - 1 microbatches and what exceeds the step's is left out.
"""

from collections import Counter
from collections.abc import Iterator

from orchestrator.schedules.codes import (
    FORWARD,
    INPUT_GRAD,
    WEIGHT_GRAD,
    Codes,
    Numbering,
    array_of,
)


def order(numbering: Numbering, *, pp: int, rank: int) -> Codes:
    """Return the codes of a pipeline rank."""
    stages = (rank, 2 * pp - 1 - rank)
    done: Counter[tuple[int, int]] = Counter()

    def steps() -> Iterator[int]:
        num_laid_out = max(2 * pp - 1, numbering.num_microbatches)
        for kind, chunk in _pattern(num_laid_out, pp=pp, rank=rank):
            microbatch = done[kind, chunk]
            done[kind, chunk] += 1
            if microbatch < numbering.num_microbatches:
                yield numbering.code(kind, stages[chunk], microbatch)

    return array_of(steps())


def _pattern(num_microbatches: int, *, pp: int, rank: int) -> Iterator[tuple[int, int]]:
    """Yield (kind, chunk); each runs through the microbatches in order."""
    there, back = (FORWARD, 0), (FORWARD, 1)
    backward_there = [(INPUT_GRAD, 0), (WEIGHT_GRAD, 0)]
    backward_back = [(INPUT_GRAD, 1), (WEIGHT_GRAD, 1)]
    # Warm-up: fill the ranks behind, then both ways, then start the backwards.
    yield from [there] * (2 * (pp - rank) - 1)
    yield from [back, there] * rank
    yield from [back, *backward_back] * (pp - rank)
    num_there, num_back = 2 * pp - rank - 1, pp
    while num_back < num_there or num_there < num_microbatches:
        if num_there < num_microbatches:
            yield there
            num_there += 1
        yield from (*backward_there, back, *backward_back)
        num_back += 1
    # Drain: input gradients first, as the rank before waits for them.
    yield from [(INPUT_GRAD, 0), (INPUT_GRAD, 1)] * rank
    yield from [(INPUT_GRAD, 0), (WEIGHT_GRAD, 0)] * (pp - rank)
    yield from [(WEIGHT_GRAD, 1)] * rank
    yield from [(WEIGHT_GRAD, 0)] * rank
