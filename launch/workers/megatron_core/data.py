"""Reads the corpus and makes each rank's microbatches of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from megatron.core import parallel_state

from launch.workers.megatron_core.arguments import Arguments
from launch.workers.megatron_core.dataset import build_dataset
from launch.workers.sample_order import SampleOrder
from orchestrator.errors import EngineRefused


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One microbatch, each tensor [b, s]."""

    tokens: torch.Tensor
    labels: torch.Tensor
    loss_mask: torch.Tensor
    position_ids: torch.Tensor

    @classmethod
    def stack(cls, samples: list[dict[str, torch.Tensor]], device: object) -> Self:
        """Put samples together on a device."""
        names = ("tokens", "labels", "loss_mask", "position_ids")
        stacked = {name: torch.stack([sample[name] for sample in samples]) for name in names}
        return cls(**{name: tensor.to(device) for name, tensor in stacked.items()})  # type: ignore[call-overload]


class Corpus:
    """The indexed corpus as this rank reads it."""

    def __init__(self, arguments: Arguments, index: Path) -> None:
        self._dataset = build_dataset(arguments, index)
        num_samples = len(self._dataset)
        if num_samples == 0:
            length = f"{arguments.training.sequence_length} tokens"
            problem = f"the corpus is too short for one sample of {length}"
            raise EngineRefused(
                engine="megatron-core",
                reason=f"{arguments.data.prefix}: {problem}",
                instead="use a larger corpus, or a shorter sequence_length",
            )
        self._order = SampleOrder(num_samples=num_samples, seed=arguments.training.seed)
        self._micro_batch_size = arguments.training.micro_batch_size
        self._dp = parallel_state.get_data_parallel_world_size()
        self._dp_rank = parallel_state.get_data_parallel_rank()

    def microbatches(self, first_position: int, num_microbatches: int) -> Iterator[Batch]:
        """This rank's share of the global batch that begins at a position."""
        device = torch.cuda.current_device()
        for microbatch in range(num_microbatches):
            nth = microbatch * self._dp + self._dp_rank
            position = first_position + nth * self._micro_batch_size
            yield Batch.stack(
                [self._sample(position + i) for i in range(self._micro_batch_size)], device
            )

    def _sample(self, position: int) -> dict[str, Any]:
        return self._dataset[self._order[position]]  # type: ignore[no-any-return]  # untyped engine
