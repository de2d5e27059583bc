"""One optimizer step: forward and backward over the microbatches, then the update."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import Any

import torch
import torch.distributed as dist
from megatron.core.distributed import finalize_model_grads
from megatron.core.optimizer_param_scheduler import get_canonical_lr_for_logging
from megatron.core.pipeline_parallel import get_forward_backward_func

from launch.workers.leave import LeaveRequest
from launch.workers.megatron_core.arguments import Arguments
from launch.workers.megatron_core.data import Batch, Corpus
from launch.workers.megatron_core.engine import Engine


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What every rank knows after a step; `loss` is the mean over the global batch."""

    loss: float
    grad_norm: float | None
    learning_rate: float
    leaving: bool


class Trainer:
    """Runs steps over this rank's chunks."""

    def __init__(self, *, arguments: Arguments, engine: Engine, corpus: Corpus) -> None:
        self._training = arguments.training
        self._num_microbatches = arguments.num_microbatches(dist.get_world_size())
        self._model = engine.model
        self._optimizer = engine.optimizer
        self._schedule = engine.schedule
        self._corpus = corpus
        engine.model.config.finalize_model_grads_func = finalize_model_grads
        engine.model.config.grad_scale_func = engine.optimizer.scale_loss

    def run_step(self, first_position: int, leave: LeaveRequest) -> StepResult:
        """Train on the global batch that begins at a position, and agree on its outcome."""
        for chunk in self._model.chunks:
            chunk.zero_grad_buffer()
        self._optimizer.zero_grad()
        losses = self._forward_backward(first_position)
        learning_rate = get_canonical_lr_for_logging(self._optimizer.param_groups)
        _, grad_norm, _ = self._optimizer.step()
        self._schedule.step(1)
        loss, leaving = _agree(losses, leave)
        return StepResult(
            loss=loss,
            grad_norm=None if grad_norm is None else float(grad_norm),
            learning_rate=learning_rate,
            leaving=leaving,
        )

    def _forward_backward(self, first_position: int) -> list[torch.Tensor]:
        """The losses of this rank's microbatches; empty but on the last pipeline stage."""
        chunks = self._model.chunks
        batches = [self._batches(chunk, first_position) for chunk in self._model.bare_chunks]
        outcomes = get_forward_backward_func()(
            forward_step_func=_forward,
            data_iterator=batches if len(chunks) > 1 else batches[0],
            model=chunks if len(chunks) > 1 else chunks[0],
            num_microbatches=self._num_microbatches,
            seq_length=self._training.sequence_length,
            micro_batch_size=self._training.micro_batch_size,
            forward_only=False,
        )
        return [outcome["loss"] for outcome in outcomes]

    def _batches(self, chunk: Any, first_position: int) -> Iterator[Batch | None]:  # noqa: ANN401
        """A chunk in the middle of the pipeline reads no tokens: its input comes by message."""
        if chunk.pre_process or chunk.post_process:
            return self._corpus.microbatches(first_position, self._num_microbatches)
        return repeat(None, self._num_microbatches)


def _forward(batches: Iterator[Batch | None], model: Any) -> tuple[torch.Tensor, Any]:  # noqa: ANN401
    batch = next(batches)
    no_mask = None  # the causal mask is the layers' own
    if batch is None:
        return model(None, None, no_mask), None
    output = model(batch.tokens, batch.position_ids, no_mask, labels=batch.labels)
    return output, partial(_mean_loss, batch.loss_mask)


def _mean_loss(
    loss_mask: torch.Tensor, losses: torch.Tensor
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    mean = (losses.float() * loss_mask).sum() / loss_mask.sum()
    # A copy: the schedule divides the loss it is given in place.
    return mean, {"loss": mean.detach().clone()}


def _agree(losses: list[torch.Tensor], leave: LeaveRequest) -> tuple[float, bool]:
    """The global mean loss, and whether any rank was asked to leave, in one small reduction.

    Every rank of the last stage adds its mean, the others add nothing: all ranks then know the
    mean of the means, which is the mean, as microbatches are of one size.
    """
    mean = sum(loss.double() for loss in losses) / len(losses) if losses else 0.0
    knows = 1.0 if losses else 0.0
    votes = torch.tensor(
        [float(mean), knows, float(leave.requested)],
        dtype=torch.float64,
        device=torch.cuda.current_device(),
    )
    dist.all_reduce(votes)
    total, num_means, num_leaving = votes.tolist()
    return total / num_means, num_leaving > 0
