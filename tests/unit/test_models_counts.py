"""Every model card's count agrees with what was published, to the last parameter where it can."""

import math

import pytest

from orchestrator.catalog.cards import model_card, model_names
from orchestrator.cost.census import flop_census, parameter_census
from orchestrator.cost.flops import attended_keys, forward_flop_per_token
from orchestrator.cost.parameters import active_parameters, mtp_parameters, total_parameters
from orchestrator.cost.shape import shape_of

TOLERANCE = 0.02

# What publishers print of active parameters, where it is off by more, and why. May only shrink.
ACTIVE_OFF = {
    "deepseek-v2-lite": (0.022, "2.45 B without the embedding, printed as 2.4"),
    "grok-1": (0.027, "two of eight experts make 83.8 B; 86 B is a figure of the press"),
}

# The hub's elements of checkpoints that repeat embedding and output beside the MTP layer.
MTP_CHECKPOINTS = {"glm-4.5": 358_337_791_296, "glm-4.5-air": 110_468_824_832}


def router_buffers(card, *, mtp_layers=0):
    """Return the router biases that checkpoints hold and no optimizer trains."""
    if card.moe is None or not card.moe.expert_bias:
        return 0
    layers = sum(card.is_moe_layer(layer) for layer in range(card.num_layers))
    return (layers + mtp_layers) * card.moe.num_experts


def counted(card):
    shape = shape_of(card)
    published = card.published
    return total_parameters(shape) + ("mtp" in published.includes) * mtp_parameters(shape)


@pytest.mark.parametrize("name", model_names())
def test_a_count_is_within_two_percent_of_the_published_total(name):
    card = model_card(name)

    assert counted(card) == pytest.approx(card.published.parameters_b * 1e9, rel=TOLERANCE)


@pytest.mark.parametrize(
    "name", [name for name in model_names() if model_card(name).published.checkpoint_parameters]
)
def test_a_count_is_the_published_checkpoint_to_the_last_element(name):
    card = model_card(name)

    elements = total_parameters(shape_of(card)) + router_buffers(card)

    assert elements == card.published.checkpoint_parameters


@pytest.mark.parametrize("name", MTP_CHECKPOINTS)
def test_multi_token_prediction_completes_the_published_checkpoint(name):
    card = model_card(name)
    shape = shape_of(card)
    repeated = 2 * shape.vocab * shape.hidden

    elements = total_parameters(shape) + mtp_parameters(shape) + repeated

    assert elements + router_buffers(card, mtp_layers=1) == MTP_CHECKPOINTS[name]


def published_active(name):
    return model_card(name).published.active_parameters_b


@pytest.mark.parametrize("name", [name for name in model_names() if published_active(name)])
def test_active_parameters_are_those_published_or_the_difference_is_explained(name):
    card = model_card(name)
    shape = shape_of(card)
    left_out = len(card.published.active_leaves_out) * shape.vocab * shape.hidden

    active = active_parameters(shape) - left_out

    tolerance, _ = ACTIVE_OFF.get(name, (TOLERANCE, ""))
    assert active == pytest.approx(published_active(name) * 1e9, rel=tolerance)


@pytest.mark.parametrize("name", sorted(ACTIVE_OFF))
def test_an_explained_difference_is_still_there(name):
    card = model_card(name)
    shape = shape_of(card)
    left_out = len(card.published.active_leaves_out) * shape.vocab * shape.hidden

    off = (active_parameters(shape) - left_out) / (published_active(name) * 1e9) - 1

    assert TOLERANCE < abs(off) <= ACTIVE_OFF[name][0], "write the smaller difference down"


@pytest.mark.parametrize("name", model_names())
def test_the_parts_of_a_model_sum_to_its_totals(name):
    shape = shape_of(model_card(name))

    assert parameter_census(shape).total == total_parameters(shape)
    whole = forward_flop_per_token(shape, sequence=4096).total
    assert flop_census(shape, sequence=4096).total == pytest.approx(whole, rel=1e-12)


def test_flops_of_llama_8b_are_those_of_a_hand_count():
    shape = shape_of(model_card("llama-3.1-8b"))

    flop = flop_census(shape, sequence=8192)

    # 32 layers; h 4,096; 32 heads and 8 groups of 128; FFN 14,336; vocabulary 128,256.
    assert flop.attention_projections == 32 * 2 * (4096 * (32 + 16) * 128 + 4096 * 4096)
    assert flop.attention_core == 32 * 2 * (8192 / 2) * 32 * (128 + 128)
    assert flop.mlp == 32 * 2 * 3 * 4096 * 14336
    assert flop.logits == 2 * 4096 * 128256
    assert flop.experts == flop.router == flop.mtp == 0


def test_flops_of_mixtral_count_two_of_eight_experts():
    shape = shape_of(model_card("mixtral-8x7b"))

    flop = flop_census(shape, sequence=4096)

    assert flop.experts == 32 * 2 * 2 * 3 * 4096 * 14336
    assert flop.router == 32 * 2 * 4096 * 8


def test_flops_of_multi_token_prediction_are_a_layer_a_projection_and_the_logits_again():
    shape = shape_of(model_card("deepseek-v3"))
    flop = flop_census(shape, sequence=4096)
    one_core = flop.attention_core / 61
    one_projection = flop.attention_projections / 61
    one_mlp = (flop.experts + flop.shared_experts + flop.router) / 58

    depth = one_core + one_projection + one_mlp + 2 * 2 * 7168 * 7168 + flop.logits

    assert flop.mtp == pytest.approx(depth)


def keys_seen(position, *, window, chunked):
    """Return how many keys a 0-based token sees, itself counted half as the formulas do."""
    first = position // window * window if chunked else max(0, position - window)
    return position - first + 0.5


@pytest.mark.parametrize("name", ["gemma-3-1b", "gpt-oss-20b", "llama-4-scout"])
def test_attention_behind_windows_counts_the_unmasked_scores(name):
    card = model_card(name)
    sequence = 16 * 2**10
    near = math.fsum(
        keys_seen(position, window=card.window.size, chunked=card.window.kind == "chunked")
        for position in range(sequence)
    )
    layers = sum(card.is_windowed_layer(layer) for layer in range(card.num_layers))
    share = layers / card.num_layers

    mean = share * near / sequence + (1 - share) * sequence / 2

    assert attended_keys(shape_of(card), sequence=sequence) == pytest.approx(mean, rel=1e-3)


def test_a_window_longer_than_the_sequence_changes_nothing():
    shape = shape_of(model_card("llama-4-scout"))

    assert attended_keys(shape, sequence=8192) == 4096


@pytest.mark.parametrize(
    ("name", "special"),
    [
        ("llama-2-7b", ()),
        ("mistral-7b", ("window",)),
        ("falcon-180b", ("parallel_attention",)),
        ("nemotron-4-15b", ("layernorm_zero_centered_gamma", "rotary_percent")),
        ("deepseek-v2", ("rope_scaling", "moe", "mla")),
    ],
)
def test_a_card_names_what_an_engine_must_honour_or_refuse(name, special):
    assert model_card(name).special_fields() == special
