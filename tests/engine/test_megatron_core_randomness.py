"""Which random numbers which ranks share: every dropout mask of a step, as real ranks draw it.

Megatron's rule, which is the worker's: what tensor-parallel ranks hold alike is masked alike, what
they hold apart (heads; with sequence parallelism, tokens) is masked apart; pipeline stages differ;
replicas draw alike, over other samples.
"""

import json
from pathlib import Path
from typing import Any

import pytest

RECORD = """
import hashlib, json, os
import torch
from torch.nn import functional

drop = functional.dropout
def recorded(x, p=0.5, training=True, inplace=False):
    kept = drop(torch.ones_like(x), p, training)
    if training and p:
        mask = hashlib.sha256(kept.ne(0).numpy().tobytes()).hexdigest()
        with open(os.path.join({folder!r}, os.environ["RANK"]), "a") as masks:
            masks.write(json.dumps([list(x.shape), mask]) + "\\n")
    return x * kept
functional.dropout = recorded
"""
DROPOUT = {"hidden_dropout": 0.1, "attention_dropout": 0.1, "steps": 1}
Mask = tuple[tuple[int, ...], str]


@pytest.fixture
def masks(warm, gpt, tmp_path: Path) -> Any:
    """Makes one step in a layout; returns each rank's masks of hidden states and of attention."""

    def drawn(ranks: int, **parallel: Any) -> list[dict[str, list[Mask]]]:
        before = RECORD.format(folder=str(tmp_path))
        warm.run(gpt(training=DROPOUT, parallel=parallel), ranks=ranks, before=before)
        return [sorted_out((tmp_path / str(rank)).read_text()) for rank in range(ranks)]

    return drawn


def sorted_out(text: str) -> dict[str, list[Mask]]:
    """Hidden states are [s, b, h], attention's probabilities [b, heads, s, s]."""
    found: dict[str, list[Mask]] = {"hidden": [], "attention": []}
    for line in text.splitlines():
        shape, mask = json.loads(line)
        found["hidden" if len(shape) == 3 else "attention"].append((tuple(shape), mask))
    return found


def all_differ(one: list[Mask], other: list[Mask]) -> bool:
    return bool(one) and bool(other) and not {m for _, m in one} & {m for _, m in other}


def test_tensor_and_pipeline_ranks_draw_what_their_axis_says(masks) -> None:
    first, its_half, second, seconds_half = masks(4, tp=2, pp=2)

    for left, right in ((first, its_half), (second, seconds_half)):
        assert left["hidden"]
        assert left["hidden"] == right["hidden"]
        assert all_differ(left["attention"], right["attention"])
    for kind in ("hidden", "attention"):
        assert all_differ(first[kind], second[kind])
        assert len(set(first[kind])) == len(first[kind])


def test_sequence_parallel_ranks_hold_other_tokens_and_draw_other_masks(masks) -> None:
    left, right = masks(2, tp=2, sequence_parallel=True)

    assert all_differ(left["hidden"], right["hidden"])
    assert all_differ(left["attention"], right["attention"])


@pytest.mark.parametrize("parallel", [{}, {"ep": 1, "cp": 2}], ids=["dp2", "cp2"])
def test_replicas_draw_alike(masks, parallel) -> None:
    left, right = masks(2, **parallel)

    assert left["hidden"]
    assert left == right
