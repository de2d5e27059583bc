"""TensorBoard's event files, with the names that Megatron's trainer gives its curves.

As there, the last rank writes them, and each curve comes twice: over steps and, under its name with
` vs samples`, over consumed samples. `learning-rate` is the rate that the step was taken with;
Megatron writes the next step's. After a restart steps come again: TensorBoard could hide the lost
ones by their step, but then would hide all points over samples as well, whose numbers are larger.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from launch.rank_lines import StepLine


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """The writer of one generation's curves; silent where there is nothing to write to."""

    writer: Any | None
    world_size: int

    def step(self, line: StepLine, *, batch_size: int, consumed_samples: int) -> None:
        """Add a training step's points."""
        points = {
            "lm loss": line.loss,
            "learning-rate": line.learning_rate,
            "grad-norm": line.grad_norm,
            "batch-size": batch_size,
            "world-size": self.world_size,
        }
        over_steps = {
            "samples vs steps": consumed_samples,
            "iteration-time": line.duration_s,
            "mem-max-allocated-bytes": line.memory_bytes,
        }
        self._add({**points, **over_steps}, line.step)
        self._add(points, consumed_samples, suffix=" vs samples")

    def evaluation(self, loss: float, *, step: int, consumed_samples: int) -> None:
        """Add a held-out loss and its perplexity."""
        points = {"lm loss validation": loss, "lm loss validation ppl": perplexity(loss)}
        self._add(points, step)
        self._add(points, consumed_samples, suffix=" vs samples")

    def close(self) -> None:
        """Write what is left."""
        if self.writer is not None:
            self.writer.close()

    def _add(self, points: Mapping[str, float | None], at: int, *, suffix: str = "") -> None:
        if self.writer is None:
            return
        for tag, value in points.items():
            if value is not None:
                self.writer.add_scalar(f"{tag}{suffix}", value, at)
        # A rank can be killed at any time, and its last points are the ones that matter.
        self.writer.flush()


def curves(folder: str | None, *, rank: int, world_size: int) -> Curves:
    """The curves of a run; only the last rank has any."""
    if folder is None or rank != world_size - 1:
        return Curves(writer=None, world_size=world_size)
    from torch.utils.tensorboard import SummaryWriter

    return Curves(writer=SummaryWriter(folder), world_size=world_size)


def perplexity(loss: float) -> float:
    """The exponential of the loss; above e^20 it means nothing, as in Megatron's evaluation."""
    return math.exp(min(20.0, loss))
