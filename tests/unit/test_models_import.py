"""A Hugging Face `config.json` becomes a card: the same as ours where both describe a model."""

import json

import pytest

from orchestrator.catalog.cards import model_card
from orchestrator.catalog.huggingface.imported import imported
from orchestrator.cost.shape import shape_of
from orchestrator.errors import InvalidFile
from tests.fakes.huggingface_configs import COMMON, CONFIGS

ARCHITECTURE = (
    *("num_layers", "hidden_size", "ffn_hidden_size", "num_attention_heads", "num_query_groups"),
    *("head_dim", "vocab_size", "max_sequence_length", "gated_mlp", "normalization"),
    *("norm_epsilon", "position_embedding", "rotary_base", "rotary_base_local", "rotary_percent"),
    *(
        "window",
        "attention_sinks",
        "tied_embeddings",
        "qkv_bias",
        "linear_bias",
        "qk_norm",
        "qk_l2_norm",
    ),
    *("post_norms", "parallel_attention", "attention_logit_softcap", "final_logit_softcap"),
    *("activation_clamp", "glu_linear_offset", "nope_layer_interval", "mtp_num_layers", "mla"),
)
ROUTING = (
    *("num_experts", "router_topk", "moe_ffn_hidden_size", "shared_expert_intermediate_size"),
    *("score_function", "expert_bias", "num_groups", "group_topk", "topk_scaling_factor"),
)


def read(config, *, name="mine"):
    return imported(json.dumps(COMMON | config), name=name, file="config.json")


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_says_what_the_built_in_card_says(name):
    ours = model_card(name)

    theirs = read(CONFIGS[name], name=name).card

    found = {field: getattr(theirs, field) for field in ARCHITECTURE}
    assert found == {field: getattr(ours, field) for field in ARCHITECTURE}
    assert shape_of(theirs).kinds == shape_of(ours).kinds
    if ours.moe is not None:
        routing = {field: getattr(theirs.moe, field) for field in ROUTING}
        assert routing == {field: getattr(ours.moe, field) for field in ROUTING}


def test_keys_without_a_place_in_a_card_are_named_with_their_values():
    config = CONFIGS["llama-3.1-8b"] | {"rope_interleaved": True, "head_dim": None}

    assert read(config).unmapped == {"rope_interleaved": True}


def test_other_modalities_are_named_as_not_mapped():
    assert read(CONFIGS["llama-4-maverick"]).unmapped == {"vision_config": {"hidden_size": 1408}}


def test_scaled_positions_keep_their_numbers():
    card = read(CONFIGS["llama-3.1-8b"]).card

    assert card.rope_scaling == model_card("llama-3.1-8b").rope_scaling


def test_newer_rope_parameters_are_read_like_the_older_keys():
    config = dict(CONFIGS["llama-3.1-8b"])
    theta, scaling = config.pop("rope_theta"), config.pop("rope_scaling")

    newer = read(config | {"rope_parameters": {"rope_theta": theta, **scaling}}).card

    assert newer == read(CONFIGS["llama-3.1-8b"]).card


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"model_type": "lama"}, r"(?s)model_type: 'lama' is not known here.*did you mean 'llama'"),
        ({"model_type": None}, r"model_type: is required and absent"),
        ({"hidden_size": None}, r"hidden_size: is required and absent"),
        ({"hidden_size": "4096"}, r'hidden_size: "4096": is no whole number'),
        ({"hidden_act": "mish"}, r'hidden_act: "mish": is not one of'),
        ({"attention_bias": True}, r"attention_bias: true: biases in attention's output"),
        ({"num_key_value_heads": 5}, r"num_query_groups 5 does not divide"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_a_card_cannot_say_is_refused_with_its_key(change, text):
    with pytest.raises(InvalidFile, match=text):
        read({**CONFIGS["llama-3.1-8b"], **change})


def test_an_older_falcon_is_refused_rather_than_miscounted():
    with pytest.raises(InvalidFile, match="new_decoder_architecture: false: older Falcons"):
        read(CONFIGS["falcon-180b"] | {"new_decoder_architecture": False})


@pytest.mark.parametrize("text", ["", "{", "[1]"], ids=["empty", "half", "list"])
def test_a_file_that_is_no_json_mapping_is_refused(text):
    with pytest.raises(InvalidFile, match=r"config\.json: (not JSON|is a list)"):
        imported(text, name="mine", file="config.json")
