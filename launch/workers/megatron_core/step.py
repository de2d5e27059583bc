"""One optimizer step: forward and backward over the microbatches, then the update."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import Any

import torch
import torch.distributed as dist
from megatron.core import parallel_state
from megatron.core.distributed import finalize_model_grads
from megatron.core.optimizer_param_scheduler import get_canonical_lr_for_logging
from megatron.core.pipeline_parallel import get_forward_backward_func

from launch.workers.leave import LeaveRequest
from launch.workers.megatron_core.arguments import Arguments
from launch.workers.megatron_core.data import Batch, Share
from launch.workers.megatron_core.engine import Engine
from launch.workers.megatron_core.versions import own_chunks


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What every rank knows after a step; `loss` is the mean over the global batch."""

    loss: float
    grad_norm: float | None
    learning_rate: float
    skipped: bool
    leaving: bool


class Trainer:
    """Runs steps over this rank's chunks."""

    def __init__(self, *, arguments: Arguments, engine: Engine) -> None:
        self._training = arguments.training
        self._model = engine.model
        self._optimizer = engine.optimizer
        self._schedule = engine.schedule
        engine.model.config.finalize_model_grads_func = finalize_model_grads
        engine.model.config.grad_scale_func = engine.optimizer.scale_loss

    def run_step(self, share: Share, leave: LeaveRequest) -> StepResult:
        """Train on this rank's share of a global batch, and agree on its outcome."""
        for chunk in self._model.chunks:
            chunk.zero_grad_buffer()
        self._optimizer.zero_grad()
        losses = self._forward_backward(share, forward_only=False)
        learning_rate = get_canonical_lr_for_logging(self._optimizer.param_groups)
        is_updated, grad_norm, _ = self._optimizer.step()
        self._schedule.step(1)
        loss, leaving = _agree(losses, leave)
        return StepResult(
            loss=loss,
            grad_norm=None if grad_norm is None else float(grad_norm),
            learning_rate=learning_rate,
            skipped=not is_updated,
            leaving=leaving,
        )

    def evaluate(self, share: Share) -> float:
        """The mean loss over a global batch; changes nothing, draws no random numbers."""
        for chunk in self._model.chunks:
            chunk.eval()
        with torch.no_grad():
            losses = self._forward_backward(share, forward_only=True)
        for chunk in self._model.chunks:
            chunk.train()
        loss, _ = _agree(losses, LeaveRequest())
        return loss

    def _forward_backward(self, share: Share, *, forward_only: bool) -> list[torch.Tensor]:
        """The losses of this rank's microbatches; empty but on the last pipeline stage."""
        chunks = self._model.chunks
        batches = [_batches(chunk, share) for chunk in self._model.bare_chunks]
        outcomes = get_forward_backward_func()(
            forward_step_func=_forward,
            data_iterator=batches if len(chunks) > 1 else batches[0],
            model=chunks if len(chunks) > 1 else chunks[0],
            num_microbatches=share.num_microbatches,
            seq_length=self._training.sequence_length,
            micro_batch_size=self._training.micro_batch_size,
            forward_only=forward_only,
        )
        return [outcome["loss"] for outcome in outcomes]


def _batches(chunk: Any, share: Share) -> Iterator[Batch | None]:  # noqa: ANN401 - untyped engine
    """A chunk in the middle of the pipeline reads no tokens: its input comes by message."""
    if chunk.pre_process or chunk.post_process:
        return share.microbatches()
    return repeat(None, share.num_microbatches)


def _forward(batches: Iterator[Batch | None], model: Any) -> tuple[torch.Tensor, Any]:  # noqa: ANN401
    batch = next(batches)
    no_mask = None  # the causal mask is the layers' own
    if batch is None:
        return model(None, None, no_mask), None
    own = _own_chunks(batch)
    output = model(own["tokens"], own["position_ids"], no_mask, labels=own["labels"])
    return output, partial(_mean_loss, own["weights"])


def _own_chunks(batch: Batch) -> dict[str, torch.Tensor]:
    """What this rank has of the sequences when context parallelism cuts them.

    A token's weight is its share of the mean over whole sequences, so that ranks whose chunks have
    unequal numbers of masked tokens still sum to that mean.
    """
    whole = {
        "tokens": batch.tokens,
        "labels": batch.labels,
        "position_ids": batch.position_ids,
        "weights": batch.loss_mask / batch.loss_mask.sum(),
    }
    return own_chunks(whole)


def _mean_loss(
    weights: torch.Tensor, losses: torch.Tensor
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """This rank's part of the mean; told times cp, so that the mean over ranks is the mean.

    The schedule multiplies the first by cp, as gradients are then averaged over cp as well.
    """
    part = (losses.float() * weights).sum()
    return part, {"loss": part.detach() * parallel_state.get_context_parallel_world_size()}


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
