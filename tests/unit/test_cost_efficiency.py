"""The table of rates, and what stands in for a chip that is not in it."""

from dataclasses import replace

import pytest

from orchestrator.catalog.cards import accelerator_card, accelerator_names
from orchestrator.cost.efficiency import BY_ARCHITECTURE, UNKNOWN, efficiency_of
from orchestrator.cost.workload import peak_flop_per_s
from orchestrator.specs.choices import Precision


@pytest.mark.parametrize("architecture", sorted(BY_ARCHITECTURE))
def test_every_rate_is_a_share_and_says_where_it_comes_from(architecture: str):
    efficiency = efficiency_of(architecture)

    shares = [efficiency.matmul_share(precision) for precision in Precision]
    assert all(0 < share <= 1 for share in (*shares, efficiency.attention_share))
    assert efficiency.source


def test_an_architecture_that_nobody_measured_is_assumed_and_says_so():
    assert efficiency_of("from-next-year") is UNKNOWN
    assert UNKNOWN.source.startswith("assumed")


@pytest.mark.parametrize("name", ["h100-80gb-sxm", "a100-80gb-sxm", "cpu-core"])
def test_accelerators_that_plans_are_made_for_are_in_the_table(name: str):
    assert name in accelerator_names()
    assert accelerator_card(name).architecture in BY_ARCHITECTURE


def test_a_precision_without_a_rate_counts_as_bf16():
    card = accelerator_card("a100-80gb-sxm")
    bare = card.model_copy(update={"dense_tflops": {Precision.BF16: 312.0}})

    assert peak_flop_per_s(bare, Precision.FP32) == 312e12


def test_an_entry_can_be_replaced_field_by_field():
    faster = replace(UNKNOWN, bf16_matmul_share=0.9)

    assert faster.matmul_share(Precision.BF16) == 0.9


def test_the_accuracy_told_to_users_is_the_one_of_the_score(root):
    page = (root / "docs" / "cost-model.md").read_text()

    assert "dense H100: 18 rows, mean 4.4%" in page
    assert efficiency_of("hopper").accuracy.startswith("4.4% off on average on 18 published dense")
    assert "dense A100: 5 rows, mean 17.5%, bias -17.5%" in page
    assert efficiency_of("ampere").accuracy.startswith("17.5% too fast on average on 5 published")
