"""DeepSpeed's TrainSchedule: the instructions of each step, with the buffers they use.

All ranks go through 2 (m + p - 1) steps. Rank r runs the forward of microbatch k in step 2 k + r
and its backward in step 2 (k + p) - 1 - r, so a step of r's parity is a forward one; where the
microbatch does not exist, the step computes nothing. Between, a rank exchanges what it made in
the step before and what it needs in this one.
"""

from collections.abc import Iterator

from orchestrator.schedules.schedule import Schedule


def stream(schedule: Schedule, *, rank: int) -> tuple[str, ...]:
    """Return a rank's instructions, those of a step joined by `; `."""
    pp, m = schedule.pp, schedule.num_microbatches
    num_steps = 2 * (m + pp - 1)
    return tuple("; ".join(_step(step, pp=pp, m=m, rank=rank)) for step in range(num_steps))


def _step(step: int, *, pp: int, m: int, rank: int) -> Iterator[str]:
    is_forward = (step - rank) % 2 == 0
    here = _buffer(_microbatch(step, pp=pp, rank=rank), pp=pp, m=m, rank=rank)
    # Nothing was made before the first step.
    before = _buffer(_microbatch(step - 1, pp=pp, rank=rank), pp=pp, m=m, rank=rank)
    before = before if step > 0 else None
    if is_forward and rank > 0:
        yield from _instruction("SendGrad", before)
        yield from _instruction("RecvActivation", here)
    if not is_forward and rank < pp - 1:
        yield from _instruction("RecvGrad", here)
        yield from _instruction("SendActivation", before)
    if is_forward and rank in {0, pp - 1}:
        yield from _instruction("LoadMicroBatch", here)
    yield from _instruction("ForwardPass" if is_forward else "BackwardPass", here)
    if step == 2 * (m + pp - 1) - 1:
        yield from ("ReduceTiedGrads()", "ReduceGrads()", "OptimizerStep()")


def _microbatch(step: int, *, pp: int, rank: int) -> int:
    """Return the microbatch of a step; it may not exist."""
    if (step - rank) % 2 == 0:
        return (step - rank) // 2
    return (step + 1 + rank) // 2 - pp


def _buffer(microbatch: int, *, pp: int, m: int, rank: int) -> int | None:
    """Return the buffer of a microbatch: as many as are in flight at most, two at least."""
    num_buffers = max(2, min(pp - rank, m))
    return microbatch % num_buffers if 0 <= microbatch < m else None


def _instruction(name: str, buffer: int | None) -> Iterator[str]:
    if buffer is not None:
        yield f"{name}(buffer_id={buffer})"
