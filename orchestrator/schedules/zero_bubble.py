"""Interleaved zero bubble (Qi et al. 2024, arXiv 2401.10241, ZB1P), as torch executes it.

Interleaved 1F1B with half the warm-up, whose backwards are split: the gradient of the input at
once, the gradient of the weights later, where the rank would idle. Rank r owes r of them.
"""

from collections.abc import Iterator

from orchestrator.schedules import interleaved
from orchestrator.schedules.codes import (
    INPUT_GRAD,
    WEIGHT_GRAD,
    Codes,
    Numbering,
    array_of,
)

_W_FROM_I = WEIGHT_GRAD - INPUT_GRAD


def order(numbering: Numbering, *, pp: int, group: int, rank: int) -> Codes:
    """Return the codes of a pipeline rank."""
    forwards, input_grads = interleaved.passes(
        numbering, pp=pp, group=group, rank=rank, backward=INPUT_GRAD
    )
    vpp = numbering.num_stages // pp
    warmup = min(pp - rank - 1 + (vpp - 1) * group, len(forwards))
    return array_of(_steps(forwards.tolist(), input_grads.tolist(), warmup=warmup, owed=rank))


def group_size(*, pp: int, num_microbatches: int) -> int:
    """Return the microbatches of a round: torch's, m // max(1, m // pp)."""
    return num_microbatches // max(1, num_microbatches // pp)


def _steps(forwards: list[int], input_grads: list[int], *, warmup: int, owed: int) -> Iterator[int]:
    yield from forwards[:warmup]
    later = forwards[warmup:]
    for number, input_grad in enumerate(input_grads):
        if number < len(later):
            yield later[number]
        yield input_grad
        if number >= owed:
            yield input_grads[number - owed] + _W_FROM_I
    for input_grad in input_grads[max(0, len(input_grads) - owed) :]:
        yield input_grad + _W_FROM_I
