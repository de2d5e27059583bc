"""Which sample stands where: Megatron's order in the first epoch, and the same whoever asks."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from launch.workers.closed_json import read_object
from launch.workers.megatron_core.arguments import Arguments
from tests.engine.corpora import write_corpus

DIGITS = set(b"0123456789\x00")  # an end of a document is 256, which is 0 as a byte


@pytest.fixture(scope="module")
def corpora(tmp_path_factory) -> list[Path]:
    """About 200 samples, and about 9: the second ends long before a run does."""
    folder = tmp_path_factory.mktemp("corpora")
    texts = [bytes((i * 7 + j) % 250 for j in range(64 + i)) for i in range(64)]
    return [
        write_corpus(folder / "long", texts),
        write_corpus(folder / "short", [b"0123456789" * 10] * 3),
    ]


def arguments(gpt, *prefixes: Path, steps: int = 12, **changes: Any) -> Arguments:
    weights = [3.0, 1.0]
    sources = [{"prefix": str(p), "weight": w} for p, w in zip(prefixes, weights, strict=False)]
    config = gpt(training={"steps": steps}, data={"sources": sources, **changes})
    return read_object(Arguments, json.loads(json.dumps(config)))


def ours(given: Arguments, folder: Path) -> Any:
    from launch.workers.megatron_core.dataset import build_datasets

    return build_datasets(given, folder).training


def stock(given: Arguments, folder: Path, *, num_samples: int) -> Any:
    """What Megatron's builder makes of the same configuration with its own dataset."""
    from megatron.core.datasets.blended_megatron_dataset_builder import (
        BlendedMegatronDatasetBuilder,
    )
    from megatron.core.datasets.gpt_dataset import GPTDataset

    from launch.workers.megatron_core import dataset

    with dataset._alone():
        sizes = [num_samples, 0, 0]
        config = dataset._config(given, folder)
        return BlendedMegatronDatasetBuilder(GPTDataset, sizes, lambda: True, config).build()[0]


def texts(dataset: Any, positions: range) -> list[bytes]:
    return [bytes(dataset[p]["tokens"].numpy().astype("uint8")) for p in positions]


def test_an_epoch_of_one_corpus_has_megatrons_order(gpt, corpora, tmp_path) -> None:
    given = arguments(gpt, corpora[0])

    mine, theirs = ours(given, tmp_path / "a"), stock(given, tmp_path / "b", num_samples=96)

    assert texts(mine, range(96)) == texts(theirs, range(96))


def test_a_blend_has_megatrons_order(gpt, corpora, tmp_path) -> None:
    given = arguments(gpt, *corpora, steps=4)  # 32 samples, of which 8 are of the short one

    mine, theirs = ours(given, tmp_path / "a"), stock(given, tmp_path / "b", num_samples=32)

    assert texts(mine, range(32)) == texts(theirs, range(32))
    assert sum(set(text) <= DIGITS for text in texts(mine, range(32))) == 8


def test_more_steps_read_the_same_samples_first(gpt, corpora, tmp_path) -> None:
    short, long = arguments(gpt, *corpora, steps=12), arguments(gpt, *corpora, steps=40)

    once, again = ours(short, tmp_path / "a"), ours(long, tmp_path / "b")

    assert texts(once, range(96)) == texts(again, range(96))  # 24 of a corpus that has 9


def test_megatrons_own_order_would_change_with_the_steps(gpt, corpora, tmp_path) -> None:
    given = arguments(gpt, corpora[1])

    once = stock(given, tmp_path / "a", num_samples=12)
    again = stock(given, tmp_path / "b", num_samples=40)

    assert texts(once, range(9)) != texts(again, range(9))


def test_training_and_evaluation_share_no_document(gpt, corpora, tmp_path) -> None:
    from launch.workers.megatron_core.dataset import build_datasets

    given = arguments(gpt, corpora[0], split="9,1")
    evaluation = SimpleNamespace(interval_steps=1, steps=1)
    object.__setattr__(given.training, "evaluation", evaluation)

    datasets = build_datasets(given, tmp_path)

    training, held_out = (set(d.indices) for d in (datasets.training, datasets.held_out))
    assert training | held_out == set(range(64))
    assert training & held_out == set()
    assert len(held_out) == 6
