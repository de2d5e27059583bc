"""A Hugging Face `config.json` becomes a card: the same as ours where both describe a model."""

import json

import pytest

from orchestrator.catalog.cards import model_card
from orchestrator.catalog.huggingface.imported import imported
from orchestrator.cost.shape import shape_of
from orchestrator.errors import InvalidFile

COMMON = {
    "architectures": ["SomethingForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.02,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.56.0",
    "use_cache": True,
}

LLAMA_ROPE = {
    "factor": 8.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}

CONFIGS = {
    "llama-3.1-8b": {
        "model_type": "llama",
        "attention_bias": False,
        "hidden_act": "silu",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "max_position_embeddings": 131072,
        "mlp_bias": False,
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "num_key_value_heads": 8,
        "pretraining_tp": 1,
        "rms_norm_eps": 1e-05,
        "rope_scaling": LLAMA_ROPE,
        "rope_theta": 500000.0,
        "tie_word_embeddings": False,
        "vocab_size": 128256,
    },
    "mistral-7b": {
        "model_type": "mistral",
        "hidden_act": "silu",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "max_position_embeddings": 32768,
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-05,
        "rope_theta": 10000.0,
        "sliding_window": 4096,
        "tie_word_embeddings": False,
        "vocab_size": 32000,
    },
    "mixtral-8x7b": {
        "model_type": "mixtral",
        "hidden_act": "silu",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "max_position_embeddings": 32768,
        "num_attention_heads": 32,
        "num_experts_per_tok": 2,
        "num_hidden_layers": 32,
        "num_key_value_heads": 8,
        "num_local_experts": 8,
        "rms_norm_eps": 1e-05,
        "rope_theta": 1000000.0,
        "router_aux_loss_coef": 0.02,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "vocab_size": 32000,
    },
    "qwen2.5-7b": {
        "model_type": "qwen2",
        "hidden_act": "silu",
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "max_position_embeddings": 131072,
        "max_window_layers": 28,
        "num_attention_heads": 28,
        "num_hidden_layers": 28,
        "num_key_value_heads": 4,
        "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0,
        "sliding_window": 131072,
        "tie_word_embeddings": False,
        "use_sliding_window": False,
        "vocab_size": 152064,
    },
    "qwen3-30b-a3b": {
        "model_type": "qwen3_moe",
        "attention_bias": False,
        "decoder_sparse_step": 1,
        "head_dim": 128,
        "hidden_act": "silu",
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "max_position_embeddings": 40960,
        "max_window_layers": 48,
        "mlp_only_layers": [],
        "moe_intermediate_size": 768,
        "norm_topk_prob": True,
        "num_attention_heads": 32,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "num_hidden_layers": 48,
        "num_key_value_heads": 4,
        "rms_norm_eps": 1e-06,
        "rope_scaling": None,
        "rope_theta": 1000000.0,
        "router_aux_loss_coef": 0.001,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "use_sliding_window": False,
        "vocab_size": 151936,
    },
    "deepseek-v3": {
        "model_type": "deepseek_v3",
        "attention_bias": False,
        "aux_loss_alpha": 0.001,
        "ep_size": 1,
        "first_k_dense_replace": 3,
        "hidden_act": "silu",
        "hidden_size": 7168,
        "intermediate_size": 18432,
        "kv_lora_rank": 512,
        "max_position_embeddings": 163840,
        "moe_intermediate_size": 2048,
        "moe_layer_freq": 1,
        "n_group": 8,
        "n_routed_experts": 256,
        "n_shared_experts": 1,
        "norm_topk_prob": True,
        "num_attention_heads": 128,
        "num_experts_per_tok": 8,
        "num_hidden_layers": 61,
        "num_key_value_heads": 128,
        "num_nextn_predict_layers": 1,
        "q_lora_rank": 1536,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "quantization_config": {"quant_method": "fp8"},
        "rms_norm_eps": 1e-06,
        "rope_scaling": {"type": "yarn", "factor": 40, "mscale": 1.0},
        "rope_theta": 10000,
        "routed_scaling_factor": 2.5,
        "scoring_func": "sigmoid",
        "seq_aux": True,
        "tie_word_embeddings": False,
        "topk_group": 4,
        "topk_method": "noaux_tc",
        "v_head_dim": 128,
        "vocab_size": 129280,
    },
    "glm-4.5-air": {
        "model_type": "glm4_moe",
        "attention_bias": True,
        "first_k_dense_replace": 1,
        "head_dim": 128,
        "hidden_act": "silu",
        "hidden_size": 4096,
        "intermediate_size": 10944,
        "max_position_embeddings": 131072,
        "moe_intermediate_size": 1408,
        "n_group": 1,
        "n_routed_experts": 128,
        "n_shared_experts": 1,
        "norm_topk_prob": True,
        "num_attention_heads": 96,
        "num_experts_per_tok": 8,
        "num_hidden_layers": 46,
        "num_key_value_heads": 8,
        "num_nextn_predict_layers": 1,
        "partial_rotary_factor": 0.5,
        "rms_norm_eps": 1e-05,
        "rope_scaling": None,
        "rope_theta": 1000000,
        "routed_scaling_factor": 1.0,
        "tie_word_embeddings": False,
        "topk_group": 1,
        "use_qk_norm": False,
        "vocab_size": 151552,
    },
    "gemma-2-9b": {
        "model_type": "gemma2",
        "attention_bias": False,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
        "head_dim": 256,
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": 3584,
        "intermediate_size": 14336,
        "max_position_embeddings": 8192,
        "num_attention_heads": 16,
        "num_hidden_layers": 42,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-06,
        "rope_theta": 10000.0,
        "sliding_window": 4096,
        "vocab_size": 256000,
    },
    # The published file leaves out whatever transformers fills in.
    "gemma-3-4b": {
        "model_type": "gemma3",
        "text_config": {
            "hidden_size": 2560,
            "intermediate_size": 10240,
            "model_type": "gemma3_text",
            "num_hidden_layers": 34,
            "sliding_window": 1024,
        },
    },
    "gpt-oss-20b": {
        "model_type": "gpt_oss",
        "attention_bias": True,
        "head_dim": 64,
        "hidden_act": "silu",
        "hidden_size": 2880,
        "intermediate_size": 2880,
        "layer_types": ["sliding_attention", "full_attention"] * 12,
        "max_position_embeddings": 131072,
        "num_attention_heads": 64,
        "num_experts_per_tok": 4,
        "num_hidden_layers": 24,
        "num_key_value_heads": 8,
        "num_local_experts": 32,
        "rms_norm_eps": 1e-05,
        "rope_theta": 150000,
        "router_aux_loss_coef": 0.9,
        "sliding_window": 128,
        "swiglu_limit": 7.0,
        "tie_word_embeddings": False,
        "vocab_size": 201088,
    },
    "llama-4-maverick": {
        "model_type": "llama4",
        "text_config": {
            "model_type": "llama4_text",
            "attention_bias": False,
            "attention_chunk_size": 8192,
            "head_dim": 128,
            "hidden_act": "silu",
            "hidden_size": 5120,
            "interleave_moe_layer_step": 2,
            "intermediate_size": 8192,
            "intermediate_size_mlp": 16384,
            "max_position_embeddings": 1048576,
            "num_attention_heads": 40,
            "num_experts_per_tok": 1,
            "num_hidden_layers": 48,
            "num_key_value_heads": 8,
            "num_local_experts": 128,
            "rms_norm_eps": 1e-05,
            "rope_theta": 500000.0,
            "router_aux_loss_coef": 0.001,
            "use_qk_norm": False,
            "vocab_size": 202048,
        },
        "vision_config": {"hidden_size": 1408},
    },
    "nemotron-4-15b": {
        "model_type": "nemotron",
        "attention_bias": False,
        "head_dim": 128,
        "hidden_act": "relu2",
        "hidden_size": 6144,
        "intermediate_size": 24576,
        "max_position_embeddings": 4096,
        "mlp_bias": False,
        "norm_eps": 1e-05,
        "num_attention_heads": 48,
        "num_hidden_layers": 32,
        "num_key_value_heads": 8,
        "partial_rotary_factor": 0.5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "vocab_size": 256000,
    },
    "falcon-180b": {
        "model_type": "falcon",
        "alibi": False,
        "bias": False,
        "hidden_size": 14848,
        "layer_norm_epsilon": 1e-05,
        "multi_query": True,
        "new_decoder_architecture": True,
        "num_attention_heads": 232,
        "num_hidden_layers": 80,
        "num_kv_heads": 8,
        "parallel_attn": True,
        "tie_word_embeddings": False,
        "vocab_size": 65024,
    },
    "gpt3-125m": {
        "model_type": "gpt2",
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-05,
        "n_embd": 768,
        "n_head": 12,
        "n_layer": 12,
        "n_positions": 2048,
        "vocab_size": 50257,
    },
}

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
