"""The parts that families of models share: frame, positions, experts, latents, windows."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from orchestrator.catalog.huggingface.config import Config, UnreadableConfigError
from orchestrator.errors import Problem, nearest

Fields = dict[str, object]

ACTIVATIONS: Mapping[str, str] = MappingProxyType(
    {
        "gelu": "gelu",
        "gelu_fast": "gelu_tanh",
        "gelu_new": "gelu_tanh",
        "gelu_pytorch_tanh": "gelu_tanh",
        "relu2": "squared_relu",
        "silu": "silu",
        "swish": "silu",
    }
)
_LONGEST_LIST = 8
_ROPE_KINDS = ("default", "linear", "dynamic", "yarn", "longrope", "llama3", "su")
_WINDOWED = ("sliding_attention", "chunked_attention")


def frame(config: Config) -> Fields:
    """Return what nearly all of them have: gated MLP, RMSNorm, rotary positions, no biases."""
    hidden, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    return {
        "num_layers": config.integer("num_hidden_layers"),
        "hidden_size": hidden,
        "ffn_hidden_size": config.integer("intermediate_size"),
        "num_attention_heads": heads,
        "num_query_groups": config.integer("num_key_value_heads", default=heads),
        "head_dim": config.integer("head_dim", default=0) or equal_share(config, hidden, heads),
        "vocab_size": config.integer("vocab_size"),
        "max_sequence_length": config.integer("max_position_embeddings"),
        "gated_mlp": True,
        "activation": activation(config),
        "normalization": "RMSNorm",
        "norm_epsilon": config.number("rms_norm_eps", default=1e-6),
        "position_embedding": "rope",
        **rotary(config),
        "tied_embeddings": config.flag("tie_word_embeddings", default=False),
        "qkv_bias": False,
        "linear_bias": False,
    }


def equal_share(config: Config, hidden: int, heads: int) -> int:
    """Return the width of a head where the file does not say it: hidden / heads, exactly."""
    if heads < 1 or hidden % heads:
        reason = f"does not divide the hidden size {hidden}"
        key = "num_attention_heads" if config.has("num_attention_heads") else "n_head"
        raise config.refuse(key, reason)
    return hidden // heads


def activation(config: Config, *, default: str | None = None) -> str:
    """Return our word for the activation function."""
    keys = ("hidden_act", "hidden_activation", "activation_function", "activation")
    name = config.text(*keys, default=default)
    if name not in ACTIVATIONS:
        key = next(key for key in keys if config.has(key))
        raise config.refuse(key, f"is not one of {', '.join(sorted(ACTIVATIONS))}")
    return ACTIVATIONS[name]


def rotary(config: Config) -> Fields:
    """Return the rotary positions: `rope_theta` and `rope_scaling`, or the newer parameters."""
    newer = config.mapping("rope_parameters")
    full = newer.get("full_attention", newer)
    local = newer.get("sliding_attention")
    inner = Config(full if isinstance(full, Mapping) else {})
    fields: Fields = {
        "rotary_base": config.integer(
            "rope_theta", default=inner.integer("rope_theta", default=10_000)
        )
    }
    if isinstance(local, Mapping):
        fields["rotary_base_local"] = Config(local).integer("rope_theta")
    share = config.number("partial_rotary_factor", default=1.0)
    if share != 1.0:
        fields["rotary_percent"] = share
    return fields | _scaling(config.mapping("rope_scaling") or inner.unread())


def attention_bias(config: Config) -> Fields:
    """Return the biases of a family whose one flag means all of attention's matrices.

    A card has biases behind queries, keys and values, or behind every matrix; nothing between.
    """
    attention = config.flag("attention_bias", default=False)
    mlp = config.flag("mlp_bias", default=False)
    if attention != mlp:
        raise config.refuse(
            "attention_bias" if attention else "mlp_bias",
            "biases in attention's output or in the MLP alone have no place in a card",
        )
    return {"qkv_bias": attention, "linear_bias": attention}


def window(config: Config, *, pattern: str | None = None, kind: str = "sliding") -> Fields:
    """Return the attention window, by `layer_types` where they are listed, else by `pattern`."""
    types = config.texts("layer_types")
    key = "attention_chunk_size" if kind == "chunked" else "sliding_window"
    size = config.integer(key, default=0)
    if types:
        marks = [int(name in _WINDOWED) for name in types]
        pattern = pattern_text(marks) if any(marks) else None
    if not size or pattern is None:
        return {}
    return {"window": {"size": size, "kind": kind, "layer_pattern": pattern}}


def latent(config: Config) -> Fields:
    """Return multi-latent attention; queries and keys go through norms of their latents."""
    nope, value = config.integer("qk_nope_head_dim"), config.integer("v_head_dim")
    fields: Fields = {
        "kv_lora_rank": config.integer("kv_lora_rank"),
        "qk_nope_head_dim": nope,
        "qk_rope_head_dim": config.integer("qk_rope_head_dim"),
        "v_head_dim": value,
    }
    query_rank = config.integer("q_lora_rank", default=0)
    if query_rank:
        fields["q_lora_rank"] = query_rank
    return {"mla": fields, "qk_norm": True, "head_dim": value}


def deepseek_experts(config: Config) -> Fields:
    """Return DeepSeek's experts: some shared, the first layers dense, routing in groups."""
    width, layers = config.integer("moe_intermediate_size"), config.integer("num_hidden_layers")
    dense = config.integer("first_k_dense_replace", default=0)
    step = config.integer("moe_layer_freq", default=1)
    marks = [int(layer >= dense and layer % step == 0) for layer in range(layers)]
    fields: Fields = {
        "num_experts": config.integer("n_routed_experts"),
        "router_topk": config.integer("num_experts_per_tok"),
        "moe_ffn_hidden_size": width,
        "shared_expert_intermediate_size": width * config.integer("n_shared_experts", default=0),
        "layer_pattern": pattern_text(marks),
        "score_function": config.text("scoring_func", default="sigmoid"),
        "aux_loss_coeff": config.number("aux_loss_alpha", default=0.0),
        "load_balancing": "seq_aux_loss" if config.flag("seq_aux", default=False) else "none",
        # A router without an auxiliary loss is balanced by a bias instead (arXiv:2412.19437).
        "expert_bias": config.text("topk_method", default="noaux_tc") == "noaux_tc",
    }
    groups = config.integer("n_group", default=1)
    if groups > 1:
        fields |= {"num_groups": groups, "group_topk": config.integer("topk_group")}
    config.integer("topk_group", default=1)
    scaling = config.number("routed_scaling_factor", default=1.0)
    if scaling != 1.0:
        fields["topk_scaling_factor"] = scaling
    return {"moe": fields, "mtp_num_layers": config.integer("num_nextn_predict_layers", default=0)}


def pattern_text(marks: Sequence[int]) -> str:
    """Return the shortest pattern that spells the marks: a period, else runs."""
    for period in range(1, min(len(marks), _LONGEST_LIST) + 1):
        if all(mark == marks[index % period] for index, mark in enumerate(marks)):
            return f"[{','.join(map(str, marks[:period]))}]"
    runs: list[list[int]] = []
    for mark in marks:
        if runs and runs[-1][0] == mark:
            runs[-1][1] += 1
        else:
            runs.append([mark, 1])
    return "+".join(f"[{mark}]*{length}" for mark, length in runs)


def _scaling(found: Mapping[str, object]) -> Fields:
    named = {"type" if key == "rope_type" else key: value for key, value in found.items()}
    kept = {key: value for key, value in named.items() if isinstance(value, int | float | str)}
    kind = kept.get("type", "default")
    if kind not in _ROPE_KINDS:
        raise UnreadableConfigError(
            Problem(
                key="rope_scaling",
                message=f"'{kind}' is not known here",
                possible=nearest(str(kind), _ROPE_KINDS),
            )
        )
    return {"rope_scaling": kept} if kind != "default" else {}
