"""Reads the corpora and makes each rank's microbatches of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import torch
from megatron.core import parallel_state

from launch.workers.megatron_core.arguments import ENGINE, Arguments
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """This rank's microbatches of the global batch that begins at a position of a corpus."""

    corpus: "Corpus"
    first_position: int
    num_microbatches: int

    def microbatches(self) -> Iterator[Batch]:
        """Read them; each call reads them anew."""
        return self.corpus.microbatches(self.first_position, self.num_microbatches)


def positions(
    first: int, *, num_microbatches: int, micro_batch_size: int, dp: int, dp_rank: int
) -> Iterator[range]:
    """The samples of one data-parallel rank's microbatches, as Megatron's sampler deals them.

    One after another the ranks take a microbatch each (MegatronPretrainingSampler, which is not in
    megatron-core 0.16.1).
    """
    for microbatch in range(num_microbatches):
        start = first + (microbatch * dp + dp_rank) * micro_batch_size
        yield range(start, start + micro_batch_size)


class Corpus:
    """Samples as this rank reads them, checked as they come."""

    def __init__(self, arguments: Arguments, dataset: Any) -> None:  # noqa: ANN401 - untyped engine
        self._dataset = dataset
        self._micro_batch_size = arguments.training.micro_batch_size
        self._vocab_size = arguments.model.padded_vocab_size
        self._dp = parallel_state.get_data_parallel_world_size()
        self._dp_rank = parallel_state.get_data_parallel_rank()

    def microbatches(self, first_position: int, num_microbatches: int) -> Iterator[Batch]:
        """This rank's share of the global batch that begins at a position.

        Raises:
            EngineRefused: a sample has a token that the model does not know.
        """
        device = torch.cuda.current_device()
        for microbatch in positions(
            first_position,
            num_microbatches=num_microbatches,
            micro_batch_size=self._micro_batch_size,
            dp=self._dp,
            dp_rank=self._dp_rank,
        ):
            yield Batch.stack([self._sample(position) for position in microbatch], device)

    def _sample(self, position: int) -> dict[str, torch.Tensor]:
        sample: dict[str, torch.Tensor] = self._dataset[position]
        # The embedding would die of it: on a GPU as a device assertion without words.
        largest = int(max(sample["tokens"].max(), sample["labels"].max()))
        if largest >= self._vocab_size:
            raise EngineRefused(
                engine=ENGINE,
                reason=f"sample {position} has token {largest}, and the model's vocabulary is "
                f"{self._vocab_size}: the corpus was made with another tokenizer",
                instead="use the model's tokenizer, or a model with that vocabulary",
            )
        return sample
