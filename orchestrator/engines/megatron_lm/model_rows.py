"""What `pretrain_gpt.py` is told of the model's shape.

Everything is written, also where a default would fit today: defaults differ between releases,
and several surprise (dropout 0.1, kv-lora-rank 32, 4h instead of the MLP's width).
"""

from collections.abc import Callable

from orchestrator.engines.megatron_lm.row import Job, Row, Section, Value


def _grouped(job: Job) -> bool:
    return job.model.mla is None and job.model.num_query_groups < job.model.num_attention_heads


def _untied(job: Job) -> bool:
    return not job.model.tied_embeddings


def _own_qkv_bias(job: Job) -> bool:
    return job.model.qkv_bias and not job.model.linear_bias


def _is_swiglu(job: Job) -> bool:
    return job.model.gated_mlp and job.model.activation == "silu"


def _gelu_needs_no_fusion(job: Job) -> bool:
    """Megatron's fused bias-GELU is the tanh form and needs a bias."""
    plain = not job.model.gated_mlp and job.model.activation in {"gelu", "gelu_tanh"}
    return plain and (job.model.activation == "gelu" or not job.model.linear_bias)


def _window(job: Job) -> Value:
    window = job.model.window
    return None if window is None else f"{window.size - 1},0"


def _window_skip(job: Job) -> Value:
    # Despite its name the list marks the layers that have the window (is_layer_window_attention).
    if job.model.window is None:
        return None
    return layer_list(job, job.model.is_windowed_layer)


def layer_list(job: Job, marked: Callable[[int], bool]) -> str:
    """Return a list with a 0 or 1 for each decoder layer, as Megatron's options read it."""
    marks = (str(int(marked(layer))) for layer in range(job.model.num_layers))
    return f"[{','.join(marks)}]"


SHAPE = Section(
    title="Model",
    rows=(
        Row(flag="--num-layers", value=lambda j: j.model.num_layers, why="decoder layers"),
        Row(flag="--hidden-size", value=lambda j: j.model.hidden_size, why="width"),
        Row(
            flag="--ffn-hidden-size",
            value=lambda j: j.model.ffn_hidden_size,
            why="width of the MLP; the default is 4h, or 8h/3 rounded with SwiGLU",
        ),
        Row(
            flag="--num-attention-heads",
            value=lambda j: j.model.num_attention_heads,
            why="heads of queries",
        ),
        Row(
            flag="--kv-channels",
            value=lambda j: j.model.head_dim,
            why="width of a head, which need not be hidden / heads",
        ),
        Row(
            flag="--group-query-attention",
            value=_grouped,
            why="without it --num-query-groups is ignored",
        ),
        Row(
            flag="--num-query-groups",
            value=lambda j: j.model.num_query_groups if _grouped(j) else None,
            why="heads of keys and values",
        ),
        Row(flag="--swiglu", value=_is_swiglu, why="gated MLP with SiLU"),
        Row(
            flag="--squared-relu",
            value=lambda j: j.model.activation == "squared_relu",
            why="activation of the MLP",
        ),
        Row(
            flag="--quick-geglu",
            value=lambda j: j.model.gated_mlp and j.model.activation == "quick_gelu",
            why="gated MLP with x * sigmoid(1.702 x)",
        ),
        Row(
            flag="--openai-gelu",
            value=lambda j: (
                not j.model.gated_mlp
                and j.model.activation == "gelu_tanh"
                and not j.model.linear_bias
            ),
            why="GELU's tanh form, unfused: the fused one needs a bias",
        ),
        Row(
            flag="--no-bias-gelu-fusion",
            value=_gelu_needs_no_fusion,
            why="the fused kernel is GELU's tanh form and needs a bias",
        ),
        Row(
            flag="--disable-bias-linear",
            value=lambda j: not j.model.linear_bias,
            why="no biases in linear layers",
        ),
        Row(flag="--add-qkv-bias", value=_own_qkv_bias, why="biases of q, k, v alone"),
        Row(
            flag="--normalization",
            value=lambda j: j.model.normalization,
            why="the default is LayerNorm",
        ),
        Row(flag="--norm-epsilon", value=lambda j: j.model.norm_epsilon, why="the model's own"),
        Row(
            flag="--apply-layernorm-1p",
            value=lambda j: j.model.layernorm_zero_centered_gamma,
            why="gains are stored minus one",
        ),
        Row(flag="--qk-layernorm", value=lambda j: j.model.qk_norm, why="queries, keys are normed"),
        Row(flag="--qk-l2-norm", value=lambda j: j.model.qk_l2_norm, why="normed without gains"),
        Row(
            flag="--untie-embeddings-and-output-weights",
            value=_untied,
            why="tied is the default",
        ),
        Row(
            flag="--init-method-std",
            value=lambda j: j.model.init_std,
            why="spread of the initial weights",
        ),
        Row(
            flag="--hidden-dropout",
            value=lambda j: j.training.hidden_dropout,
            why="the default is 0.1",
        ),
        Row(
            flag="--attention-dropout",
            value=lambda j: j.training.attention_dropout,
            why="the default is 0.1",
        ),
        Row(
            flag="--softmax-type",
            value=lambda j: "learnable" if j.model.attention_sinks else None,
            why="a learned number a head joins the softmax (attention sinks)",
        ),
        Row(flag="--window-size", value=_window, why="tokens back, tokens ahead"),
        Row(
            flag="--window-attn-skip-freq",
            value=_window_skip,
            why="1 marks the layers with the window",
        ),
        Row(
            flag="--activation-func-clamp-value",
            value=lambda j: j.model.activation_clamp,
            why="the gate's input is clamped",
        ),
        Row(
            flag="--glu-linear-offset",
            value=lambda j: j.model.glu_linear_offset,
            why="added to the linear half of the gate",
        ),
    ),
)


VOCABULARY = Section(
    title="Vocabulary",
    rows=(
        Row(
            flag="--vocab-size",
            value=lambda j: j.model.vocab_size,
            why="of the model; the tokenizer must not have more",
        ),
        Row(
            flag="--make-vocab-size-divisible-by",
            value=lambda j: j.training.vocab_padding_multiple,
            why="times tp: the embedding's rows, hence of checkpoints, depend on tp",
        ),
        Row(
            flag="--padded-vocab-size",
            value=lambda j: j.padded_vocab_size,
            why="rows of the embedding; to 0.17 the NullTokenizer counts one token more",
        ),
    ),
)

MULTI_TOKEN = Section(
    title="Multi-token prediction",
    applies=lambda j: j.model.mtp_num_layers > 0,
    rows=(
        Row(
            flag="--mtp-num-layers",
            value=lambda j: j.model.mtp_num_layers,
            why="depths that predict further tokens",
        ),
        Row(
            flag="--mtp-loss-scaling-factor",
            value=lambda _: 0.1,
            why="weight of their loss, Megatron's default, written so that it stays",
        ),
    ),
)
