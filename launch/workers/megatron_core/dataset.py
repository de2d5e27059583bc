"""Opens the corpus as Megatron's GPTDataset, the one its trainers use."""

from pathlib import Path

from megatron.core.datasets.blended_megatron_dataset_builder import BlendedMegatronDatasetBuilder
from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig

from launch.workers.megatron_core.arguments import Arguments


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


def build_dataset(arguments: Arguments, index: Path) -> GPTDataset:
    """One epoch of the corpus; reads its index from that folder, or writes it there."""
    config = GPTDatasetConfig(
        random_seed=arguments.training.seed,
        sequence_length=arguments.training.sequence_length,
        blend=([arguments.data.prefix], None),
        split="1,0,0",
        reset_position_ids=False,
        reset_attention_mask=False,
        eod_mask_loss=False,
        create_attention_mask=False,
        tokenizer=ByteTokens(
            vocab_size=arguments.model.vocab_size,
            end_of_document=arguments.data.end_of_document,
        ),
        path_to_cache=str(index),
    )
    one_epoch = [None, None, None]  # no size asked for, so that the order does not depend on it
    (training, _, _) = BlendedMegatronDatasetBuilder(
        GPTDataset, one_epoch, lambda: True, config
    ).build()
    return training
