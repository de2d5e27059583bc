"""How each `model_type` is read; what is not in the table is refused, never guessed.

One short function for each family: they differ in too many small ways for a table of keys.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from orchestrator.catalog.huggingface.config import Config
from orchestrator.catalog.huggingface.parts import (
    Fields,
    activation,
    attention_bias,
    deepseek_experts,
    equal_share,
    frame,
    latent,
    pattern_text,
    window,
)

Reader = Callable[[Config], Fields]

GEMMA_3_DEFAULTS: Mapping[str, object] = MappingProxyType(
    {
        "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 131_072,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "rope_theta": 1_000_000,
        "vocab_size": 262_208,
    }
)
"""What transformers fills in: the published Gemma 3 files leave its defaults out."""


def _llama(config: Config) -> Fields:
    return frame(config) | attention_bias(config)


def _mistral(config: Config) -> Fields:
    return frame(config) | window(config, pattern="[1]")


def _mixtral(config: Config) -> Fields:
    fields = frame(config) | window(config, pattern="[1]")
    moe: Fields = {
        "num_experts": config.integer("num_local_experts"),
        "router_topk": config.integer("num_experts_per_tok"),
        "moe_ffn_hidden_size": fields["ffn_hidden_size"],
        "router_dtype": "bf16",
        "aux_loss_coeff": config.number("router_aux_loss_coef", default=0.0),
    }
    return fields | {"moe": moe}


def _qwen2(config: Config) -> Fields:
    fields = frame(config) | {"qkv_bias": True}
    if not config.flag("use_sliding_window", default=False):
        # Its files name a window and layers even where nobody looks through one.
        config.integer("sliding_window", "max_window_layers", default=0)
        config.texts("layer_types")
        return fields
    first = config.integer("max_window_layers")
    marks = [int(layer >= first) for layer in range(config.integer("num_hidden_layers"))]
    return fields | window(config, pattern=pattern_text(marks))


def _qwen3(config: Config) -> Fields:
    return _qwen2(config) | {"qk_norm": True} | attention_bias(config)


def _qwen3_moe(config: Config) -> Fields:
    fields = _qwen3(config)
    step = config.integer("decoder_sparse_step", default=1)
    dense = set(config.integers("mlp_only_layers"))
    layers = range(config.integer("num_hidden_layers"))
    moe: Fields = {
        "num_experts": config.integer("num_experts"),
        "router_topk": config.integer("num_experts_per_tok"),
        "moe_ffn_hidden_size": config.integer("moe_intermediate_size"),
        "layer_pattern": pattern_text(
            [int(layer not in dense and (layer + 1) % step == 0) for layer in layers]
        ),
        "router_dtype": "bf16",
        "aux_loss_coeff": config.number("router_aux_loss_coef", default=0.0),
    }
    config.flag("norm_topk_prob", default=True)
    return fields | {"moe": moe}


def _deepseek(config: Config) -> Fields:
    config.flag("norm_topk_prob", default=True)
    return frame(config) | attention_bias(config) | latent(config) | deepseek_experts(config)


def _glm4_moe(config: Config) -> Fields:
    config.flag("norm_topk_prob", default=True)
    biased = config.flag("attention_bias", default=False)  # of queries, keys and values alone
    normed = config.flag("use_qk_norm", default=False)
    return frame(config) | deepseek_experts(config) | {"qkv_bias": biased} | {"qk_norm": normed}


def _gemma(config: Config, *, pattern: str) -> Fields:
    fields = frame(config) | {"post_norms": True} | window(config, pattern=pattern)
    fields["tied_embeddings"] = config.flag("tie_word_embeddings", default=True)
    for ours, theirs in (
        ("attention_logit_softcap", "attn_logit_softcapping"),
        ("final_logit_softcap", "final_logit_softcapping"),
    ):
        cap = config.number(theirs, default=0.0)
        if cap:
            fields[ours] = cap
    return fields | attention_bias(config)


def _gemma2(config: Config) -> Fields:
    return _gemma(config, pattern="[1,0]")


def _gemma3(config: Config) -> Fields:
    period = config.integer("sliding_window_pattern", "_sliding_window_pattern", default=6)
    fields = _gemma(config, pattern=pattern_text([1] * (period - 1) + [0])) | {"qk_norm": True}
    local = config.integer("rope_local_base_freq", default=10_000)
    return fields | {"rotary_base_local": fields.get("rotary_base_local", local)}


def _gpt_oss(config: Config) -> Fields:
    fields = frame(config) | window(config, pattern="[1,0]")
    biased = config.flag("attention_bias", default=True)
    moe: Fields = {
        "num_experts": config.integer("num_local_experts"),
        "router_topk": config.integer("num_experts_per_tok", "experts_per_token"),
        "moe_ffn_hidden_size": fields["ffn_hidden_size"],
        "router_dtype": "bf16",
        "aux_loss_coeff": config.number("router_aux_loss_coef", default=0.0),
    }
    return fields | {
        "activation": "quick_gelu",
        "activation_clamp": config.number("swiglu_limit", default=7.0),
        "glu_linear_offset": 1.0,
        "attention_sinks": True,
        "qkv_bias": biased,
        "linear_bias": biased,
        "moe": moe,
    }


def _nemotron(config: Config) -> Fields:
    return (
        frame(config)
        | attention_bias(config)
        | {
            "gated_mlp": False,
            "normalization": "LayerNorm",
            "norm_epsilon": config.number("norm_eps", default=1e-5),
            "layernorm_zero_centered_gamma": True,
        }
    )


def _llama4(config: Config) -> Fields:
    fields = frame(config) | attention_bias(config)
    interval = config.integer("no_rope_layer_interval", default=4)
    step = config.integer("interleave_moe_layer_step", default=1)
    width = fields["ffn_hidden_size"]
    moe: Fields = {
        "num_experts": config.integer("num_local_experts"),
        "router_topk": config.integer("num_experts_per_tok", default=1),
        "moe_ffn_hidden_size": width,
        "shared_expert_intermediate_size": width,
        "layer_pattern": pattern_text([0] * (step - 1) + [1]),
        "router_dtype": "bf16",
        "score_function": "sigmoid",
        "aux_loss_coeff": config.number("router_aux_loss_coef", default=0.0),
        "apply_probs_on_input": True,
    }
    pattern = pattern_text([1] * (interval - 1) + [0])
    return (
        fields
        | window(config, pattern=pattern, kind="chunked")
        | {
            "ffn_hidden_size": config.integer("intermediate_size_mlp"),
            "nope_layer_interval": interval,
            "qk_l2_norm": config.flag("use_qk_norm", default=False),
            "moe": moe,
        }
    )


def _falcon(config: Config) -> Fields:
    config.expect("alibi", False, default=False, reason="such positions have no place in a card")
    config.expect(
        "new_decoder_architecture",
        True,
        default=False,
        reason="older Falcons have one norm a layer, which has no place in a card",
    )
    hidden, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    biased = config.flag("bias", default=False)
    config.flag("multi_query", "parallel_attn", default=True)
    config.flag("parallel_attn", default=True)
    config.integer("num_ln_in_parallel_attn", default=2)
    whole = Config(
        {
            "num_hidden_layers": config.integer("num_hidden_layers"),
            "hidden_size": hidden,
            "num_attention_heads": heads,
            "num_key_value_heads": config.integer("num_kv_heads", default=heads),
            "intermediate_size": config.integer("ffn_hidden_size", default=4 * hidden),
            "vocab_size": config.integer("vocab_size"),
            "max_position_embeddings": config.integer("max_position_embeddings", default=2048),
            "hidden_act": config.text("activation", default="gelu"),
            "rope_theta": config.integer("rope_theta", default=10_000),
        }
    )
    return frame(whole) | {
        "gated_mlp": False,
        "normalization": "LayerNorm",
        "norm_epsilon": config.number("layer_norm_epsilon", default=1e-5),
        "parallel_attention": True,
        "tied_embeddings": config.flag("tie_word_embeddings", default=True),
        "qkv_bias": biased,
        "linear_bias": biased,
    }


def _gpt2(config: Config) -> Fields:
    hidden, heads = config.integer("n_embd"), config.integer("n_head")
    return {
        "num_layers": config.integer("n_layer"),
        "hidden_size": hidden,
        "ffn_hidden_size": config.integer("n_inner", default=4 * hidden),
        "num_attention_heads": heads,
        "num_query_groups": heads,
        "head_dim": equal_share(config, hidden, heads),
        "vocab_size": config.integer("vocab_size"),
        "max_sequence_length": config.integer("n_positions", "n_ctx"),
        "gated_mlp": False,
        "activation": activation(config, default="gelu_new"),
        "normalization": "LayerNorm",
        "norm_epsilon": config.number("layer_norm_epsilon", default=1e-5),
        "position_embedding": "learned_absolute",
        "tied_embeddings": config.flag("tie_word_embeddings", default=True),
        "qkv_bias": True,
        "linear_bias": True,
    }


READERS: Mapping[str, Reader] = MappingProxyType(
    {
        "deepseek_v2": _deepseek,
        "deepseek_v3": _deepseek,
        "falcon": _falcon,
        "gemma2": _gemma2,
        "gemma3_text": _gemma3,
        "glm4_moe": _glm4_moe,
        "gpt2": _gpt2,
        "gpt_oss": _gpt_oss,
        "kimi_k2": _deepseek,
        "llama": _llama,
        "llama4_text": _llama4,
        "mistral": _mistral,
        "mixtral": _mixtral,
        "nemotron": _nemotron,
        "qwen2": _qwen2,
        "qwen3": _qwen3,
        "qwen3_moe": _qwen3_moe,
    }
)
