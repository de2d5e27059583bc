"""1F1B (PipeDream-Flush, DAPPLE): after a short warm-up, one forward, one backward.

The order Megatron-Core, DeepSpeed and torch execute, for any number of microbatches.
"""

from collections.abc import Iterator

from orchestrator.schedules.actions import Action, ActionKind


def order(*, pp: int, num_microbatches: int, rank: int) -> Iterator[Action]:
    """Yield the actions of a pipeline rank as it executes them; stage and rank are one.

    `pp` = 1 gives what Megatron runs without a pipeline: forward, backward, by microbatch.
    """
    warmup = warmup_forwards(pp=pp, num_microbatches=num_microbatches, rank=rank)
    for microbatch in range(warmup):
        yield Action(kind=ActionKind.FORWARD, stage=rank, microbatch=microbatch)
    for microbatch in range(warmup, num_microbatches):
        yield Action(kind=ActionKind.FORWARD, stage=rank, microbatch=microbatch)
        yield Action(kind=ActionKind.BACKWARD, stage=rank, microbatch=microbatch - warmup)
    for microbatch in range(num_microbatches - warmup, num_microbatches):
        yield Action(kind=ActionKind.BACKWARD, stage=rank, microbatch=microbatch)


def warmup_forwards(*, pp: int, num_microbatches: int, rank: int) -> int:
    """Return how many forwards a rank runs before it alternates: one for each later rank."""
    return min(pp - rank - 1, num_microbatches)
