"""Opens the corpora as Megatron's datasets: a GPTDataset each, a BlendedDataset of several.

Megatron's builder makes them. One thing is added: a corpus never ends. Stock datasets are built
for a number of samples, and which sample stands where depends on that number as soon as it takes
more than one epoch: a run that is given more steps would go on in another order. Here each corpus
has the order of one epoch, which is Megatron's own, and `SampleOrder` for those after it; and which
corpus a sample of a blend comes from does not depend on how many are drawn. So a position means one
sample, whatever the number of steps, the batch ramp or the layout.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
import torch.distributed as dist
from megatron.core.datasets.blended_dataset import BlendedDataset
from megatron.core.datasets.blended_megatron_dataset_builder import BlendedMegatronDatasetBuilder
from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig
from megatron.core.datasets.utils import Split

from launch.workers.megatron_core.arguments import Arguments
from launch.workers.sample_order import SampleOrder

Sample = dict[str, torch.Tensor]
_NO_LAST_SAMPLE: Final = sys.maxsize


class ByteTokens:
    """All that Megatron's dataset asks of a tokenizer.

    No token is a padding one: whole samples need none, and a real token under that number would
    lose its loss.
    """

    pad = -1

    def __init__(self, *, vocab_size: int, end_of_document: int) -> None:
        self.vocab_size = vocab_size
        self.eod = end_of_document
        self.unique_identifiers = {"vocab_size": vocab_size, "eod": end_of_document}


class EndlessGPTDataset(GPTDataset):  # type: ignore[misc]  # untyped engine
    """A corpus that begins again, in another order, when it ends."""

    def __init__(
        self,
        indexed_dataset: Any,  # noqa: ANN401 - Megatron's signature
        dataset_path: str | None,
        indexed_indices: Any,  # noqa: ANN401
        _num_samples: int | None,
        index_split: Split,
        config: GPTDatasetConfig,
    ) -> None:
        one_epoch = None
        super().__init__(
            indexed_dataset, dataset_path, indexed_indices, one_epoch, index_split, config
        )
        self.samples_per_epoch = int(self.sample_index.shape[0] - 1)
        self._order = SampleOrder(num_samples=self.samples_per_epoch, seed=config.random_seed)

    def __len__(self) -> int:
        return _NO_LAST_SAMPLE if self.samples_per_epoch else 0

    def __getitem__(self, position: int) -> Sample:
        return super().__getitem__(self._order[int(position)])  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True, kw_only=True)
class Datasets:
    """What is trained on, and what is held out, if anything."""

    training: Any
    held_out: Any | None


def build_datasets(arguments: Arguments, index: Path) -> Datasets:
    """Open the corpora; reads their indices from that folder, or writes them there.

    Without a process group a group of this process alone is made meanwhile, as Megatron's blended
    dataset asks for its rank.
    """
    if dist.is_initialized():
        return _build(arguments, index)
    with _alone():
        return _build(arguments, index)


def samples_per_epoch(dataset: Any) -> list[int]:  # noqa: ANN401 - untyped engine
    """Whole samples of each corpus of a dataset."""
    parts = dataset.datasets if isinstance(dataset, BlendedDataset) else [dataset]
    return [part.samples_per_epoch for part in parts]


def _build(arguments: Arguments, index: Path) -> Datasets:
    evaluation = arguments.training.evaluation
    blend = len(arguments.data.sources) > 1
    num_held_out = evaluation.steps * arguments.training.global_batch_size if evaluation else 0
    # A single corpus is asked for one epoch, a blend for as many samples as the run takes.
    sizes = [num_samples(arguments), num_held_out, 0] if blend else [None, None, None]
    training, held_out, _ = BlendedMegatronDatasetBuilder(
        EndlessGPTDataset, sizes, lambda: True, _config(arguments, index)
    ).build()
    return Datasets(training=training, held_out=held_out if evaluation else None)


def num_samples(arguments: Arguments) -> int:
    """Samples of the whole run."""
    return arguments.ramp().samples_after(arguments.training.steps)


def _config(arguments: Arguments, index: Path) -> GPTDatasetConfig:
    data, prefixes = arguments.data, list(arguments.data.prefixes)
    weights = [source.weight for source in data.sources] if len(prefixes) > 1 else None
    config = GPTDatasetConfig(
        random_seed=data.seed,
        sequence_length=arguments.training.sequence_length,
        blend=(prefixes, weights),
        split=data.split,
        reset_position_ids=False,
        reset_attention_mask=False,
        eod_mask_loss=False,
        create_attention_mask=False,
        tokenizer=ByteTokens(
            vocab_size=arguments.model.vocab_size,
            end_of_document=data.end_of_document,
        ),
        path_to_cache=str(index),
    )
    training, held_out, _ = config.split_matrix
    # What is neither trained on nor evaluated needs no indices.
    evaluated = held_out if arguments.training.evaluation is not None else None
    config.split_matrix = [training, evaluated, None]
    return config


@contextmanager
def _alone() -> Iterator[None]:
    store = dist.HashStore()  # type: ignore[attr-defined]  # public, not in its __all__
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()
