"""Model FLOPs and the rule of thumb for a whole training."""

import pytest

from orchestrator.catalog.cards import model_card
from orchestrator.cost.flops import attention_flop, model_flop_per_step, training_s
from orchestrator.cost.parameters import active_parameters, total_parameters
from orchestrator.cost.shape import shape_of
from orchestrator.units import SECONDS_PER_DAY, TFLOP


def test_gpt3_on_1024_a100_takes_the_34_days_of_the_megatron_paper():
    # Narayanan et al. 2021, section 5.1: 8 N T / (n X) with 140 TFLOP/s and full recomputation.
    duration_s = training_s(
        parameters=175e9, tokens=300e9, accelerators=1024, flop_per_s=140 * TFLOP, passes=4
    )

    assert duration_s / SECONDS_PER_DAY == pytest.approx(33.9, abs=0.05)


def test_7b_on_a_trillion_tokens_is_42_zettaflop():
    flop = training_s(parameters=7e9, tokens=1e12, accelerators=1, flop_per_s=1, passes=3)

    assert flop == pytest.approx(4.2e22)


def test_llama_405b_steps_in_the_time_of_its_published_rate():
    # 16 M tokens on 16,384 GPUs at 400 TFLOP/s (Llama 3, table 4).
    step_s = training_s(
        parameters=405e9, tokens=16_777_216, accelerators=16_384, flop_per_s=400 * TFLOP, passes=3
    )

    assert step_s == pytest.approx(6.22, abs=0.01)


@pytest.mark.parametrize("name", ["gpt3-175b", "llama-3.1-405b", "llama-3.1-8b", "mixtral-8x7b"])
def test_short_sequences_come_to_six_flop_for_each_active_parameter(name: str):
    shape = shape_of(model_card(name))
    embedding = shape.vocab * shape.hidden * (0 if shape.tied else 1) + (
        shape.positions * shape.hidden
    )

    flop = model_flop_per_step(shape, sequence=1, tokens=1)

    assert flop == pytest.approx(6 * (active_parameters(shape) - embedding), rel=0.001)


def test_attention_counts_the_causal_half():
    shape = shape_of(model_card("llama-3.1-8b"))

    flop = attention_flop(shape, sequence=8192)

    # Two products, scores and values: half of 2 x 2 s (a d).
    assert flop == 2 * 8192 * 4096


def test_experts_that_a_token_does_not_meet_cost_nothing():
    shape = shape_of(model_card("deepseek-v3"))

    flop = model_flop_per_step(shape, sequence=4096, tokens=1)

    assert flop < 6 * total_parameters(shape) / 10


def test_deepseek_costs_the_260_gflop_a_token_of_megatron_bridge():
    # Megatron-Bridge's performance tables: FLOPs over tokens, with multi-token prediction.
    shape = shape_of(model_card("deepseek-v3"))

    gflop = model_flop_per_step(shape, sequence=4096, tokens=1) / 1e9

    assert gflop == pytest.approx(260, rel=0.005)
