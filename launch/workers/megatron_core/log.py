"""The log for people: readable lines on the first rank's standard output."""

import sys

import torch.distributed as dist

from launch.rank_lines import EvaluationLine, StepLine
from launch.workers.megatron_core.tensorboard import perplexity


def log(text: str) -> None:
    """Write a line at once, on rank 0 alone."""
    if dist.get_rank() == 0:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


def spoken_step(line: StepLine, last_step: int) -> str:
    """A step in one line of at most 100 columns."""
    parts = [
        f"step {line.step}/{last_step}",
        f"loss {_number(line.loss, '.4f')}",
        f"grad norm {_number(line.grad_norm, '.3f')}",
        f"lr {_number(line.learning_rate, '.2e')}",
        f"{line.tokens:,} tokens",
        f"{line.duration_s:.3f} s",
    ]
    if line.memory_bytes is not None:
        parts.append(f"{line.memory_bytes / 2**30:.2f} GiB")
    if line.skipped:
        parts.append("skipped")
    return "  ".join(parts)


def spoken_evaluation(line: EvaluationLine) -> str:
    """A held-out loss in one line."""
    parts = [
        f"evaluation after step {line.step}",
        f"loss {_number(line.loss, '.4f')}",
        f"perplexity {_number(None if line.loss is None else perplexity(line.loss), '.4g')}",
        f"{line.tokens:,} tokens",
        f"{line.duration_s:.3f} s",
    ]
    return "  ".join(parts)


def _number(value: float | None, form: str) -> str:
    return "none" if value is None else format(value, form)
