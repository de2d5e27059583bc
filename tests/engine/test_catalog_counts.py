"""Megatron-Core builds every card on the meta device, and counts what we count."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.catalog.cards import model_card, model_names
from orchestrator.cost.parameters import mtp_parameters, total_parameters
from orchestrator.cost.shape import shape_of

ROOT = Path(__file__).parents[2]
DEADLINE_S = 120.0

# What megatron-core 0.16.1 has no place for in a layer; the counts differ by just that.
POST_NORMS = tuple(name for name in model_names() if model_card(name).post_norms)
# Built one after the other instead of side by side: equal in number, not the same model.
PARALLEL_ATTENTION = ("falcon-180b",)
EXPRESSIBLE = tuple(
    name for name in model_names() if name not in {*POST_NORMS, *PARALLEL_ATTENTION}
)


@pytest.fixture(scope="module")
def megatron():
    """Return Megatron's count of each card, from one process."""
    cards = [model_card(name).model_dump(mode="json", exclude_none=True) for name in model_names()]
    answer = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("catalog_count.py"))],
        input=json.dumps(cards),
        capture_output=True,
        check=False,
        text=True,
        timeout=DEADLINE_S,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


def ours(name):
    shape = shape_of(model_card(name))
    return total_parameters(shape) + mtp_parameters(shape)


@pytest.mark.parametrize("name", EXPRESSIBLE)
def test_megatron_counts_the_same_parameters(megatron, name):
    assert megatron[name] == ours(name)


@pytest.mark.parametrize("name", POST_NORMS)
def test_a_layer_with_norms_behind_its_blocks_lacks_just_those_in_megatron(megatron, name):
    card = model_card(name)

    assert ours(name) - megatron[name] == 2 * card.num_layers * card.hidden_size


@pytest.mark.parametrize("name", PARALLEL_ATTENTION)
def test_blocks_side_by_side_have_as_many_parameters_as_one_after_the_other(megatron, name):
    assert megatron[name] == ours(name)


def test_what_megatron_cannot_express_is_known_by_name():
    assert set(POST_NORMS) == {
        *("gemma-2-2b", "gemma-2-9b", "gemma-2-27b"),
        *("gemma-3-1b", "gemma-3-4b", "gemma-3-12b", "gemma-3-27b"),
        "grok-1",
    }
    parallel = [name for name in model_names() if model_card(name).parallel_attention]
    assert tuple(parallel) == PARALLEL_ATTENTION
