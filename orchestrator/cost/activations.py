"""Bytes that a layer keeps from forward to backward for one microbatch on one rank.

Shapes as in `shape.py`; T tokens and H held tokens of a microbatch as in `slice.py`.
Source: Korthikanti et al. 2022, section 4 (34 s b h for GPT with dropout; the terms below add up
to it), carried to grouped queries, gated MLPs, latent attention and experts by counting what each
kernel of Megatron with Transformer Engine saves. Attention is fused: of its scores only the
row sums stay. FP8 keeps the inputs of matrix products in 1 byte.
"""

from dataclasses import dataclass, fields
from functools import lru_cache

from orchestrator.cost.shape import (
    LayerKind,
    Matrix,
    Shape,
    attention_matrices,
    mlp_matrices,
    qkv_width,
)
from orchestrator.cost.slice import Slice
from orchestrator.cost.workload import Workload
from orchestrator.records.layout import Recompute
from orchestrator.specs.choices import Precision, RecomputeGranularity

ROW_SUM_BYTES = 4
"""The softmax's logarithm of the sum, FP32, for each token and head."""

MASK_BYTES = 1
"""A dropout mask's element."""

ROUTER_BYTES = 8
"""Logits and probabilities of the router, FP32, for each token and expert."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerActivations:
    """Saved bytes of a layer by what recomputation can drop; they sum to the total.

    `input_bytes` is the layer's input, all that full recomputation keeps.
    """

    input_bytes: float
    residual_bytes: float
    norm_bytes: float
    latent_bytes: float
    qkv_bytes: float
    core_bytes: float
    core_output_bytes: float
    mask_bytes: float
    dense_inner_bytes: float
    dense_activation_bytes: float
    shared_inner_bytes: float
    expert_input_bytes: float
    expert_inner_bytes: float
    expert_activation_bytes: float

    @property
    def total_bytes(self) -> float:
        """Everything, without recomputation."""
        return float(sum(getattr(self, field.name) for field in fields(self)))


@lru_cache(maxsize=65536)
def layer_activations(workload: Workload, part: Slice, *, kind: LayerKind) -> LayerActivations:
    """Return what one layer saves, in bytes; `kind` says which."""
    moe = kind is LayerKind.MOE
    shape, wide, narrow = workload.shape, workload.element_bytes, workload.input_bytes
    hidden = part.held_tokens * shape.hidden
    plain = mlp_matrices(shape, width=shape.ffn, tp=part.tp)
    shared = mlp_matrices(shape, width=shape.shared_ffn, tp=part.tp)
    pairs = part.held_tokens * shape.topk * part.etp
    experts = mlp_matrices(shape, width=shape.expert_ffn, tp=part.etp)
    router = ROUTER_BYTES * part.held_tokens * shape.experts
    return LayerActivations(
        input_bytes=wide * hidden,
        residual_bytes=wide * hidden,
        norm_bytes=2 * narrow * hidden,
        latent_bytes=_latent_bytes(workload, part),
        qkv_bytes=wide * qkv_width(shape, tp=part.tp) * part.tokens,
        core_bytes=_core_bytes(workload, part),
        core_output_bytes=_output_bytes(workload) * _output_width(shape, part.tp) * part.tokens,
        mask_bytes=2 * MASK_BYTES * hidden if workload.hidden_dropout else 0.0,
        dense_inner_bytes=0.0 if moe else wide * part.tokens * plain[0].columns,
        dense_activation_bytes=0.0 if moe else narrow * part.tokens * plain[1].rows,
        shared_inner_bytes=_inner(workload, shared, part.tokens) if moe else 0.0,
        expert_input_bytes=narrow * pairs * shape.hidden + router if moe else 0.0,
        expert_inner_bytes=wide * pairs * experts[0].columns if moe else 0.0,
        expert_activation_bytes=narrow * pairs * experts[1].rows if moe else 0.0,
    )


def kept_bytes(layer: LayerActivations, recompute: Recompute) -> float:
    """Return what a layer keeps under a recomputation.

    Full keeps the input. Selective drops the modules named, in Megatron's words; what is not
    one of them drops nothing. Fused attention has little to drop under `core_attn`.
    """
    if recompute.granularity is RecomputeGranularity.NONE:
        return layer.total_bytes
    if recompute.granularity is RecomputeGranularity.FULL:
        return layer.input_bytes
    dropped = {
        "core_attn": layer.core_bytes,
        "layernorm": layer.norm_bytes,
        "mla_up_proj": layer.qkv_bytes if layer.latent_bytes else 0.0,
        "attn_out": layer.residual_bytes + layer.core_output_bytes,
        "mlp": layer.dense_inner_bytes + layer.dense_activation_bytes,
        "mlp_in": layer.dense_inner_bytes + layer.dense_activation_bytes,
        "mlp_act": layer.dense_activation_bytes,
        "shared_experts": layer.shared_inner_bytes,
        "moe_act": layer.expert_activation_bytes,
        "moe": layer.expert_input_bytes + layer.expert_inner_bytes + layer.expert_activation_bytes,
    }
    saved = sum(dropped.get(module, 0.0) for module in set(recompute.modules) - _covered(recompute))
    return layer.total_bytes - saved


def _covered(recompute: Recompute) -> set[str]:
    return {"moe_act"} if "moe" in recompute.modules else set()


def _core_bytes(workload: Workload, part: Slice) -> float:
    """Return the row sums of fused attention, or the scores [a / t, T, s] of unfused: 2 copies."""
    heads = workload.shape.heads // part.tp
    if not workload.keeps_scores:
        return float(ROW_SUM_BYTES * heads * part.tokens)
    return 2 * workload.element_bytes * heads * part.tokens * workload.sequence


def _inner(workload: Workload, matrices: tuple[Matrix, ...], tokens: int) -> float:
    """Return the MLP's widened state before and after the activation function."""
    if not matrices:
        return 0.0
    before = workload.element_bytes * matrices[0].columns
    return tokens * (before + workload.input_bytes * matrices[1].rows)


def _latent_bytes(workload: Workload, part: Slice) -> float:
    """Return the compressed queries, keys and values before and after their norms."""
    latent = workload.shape.latent
    if latent is None:
        return 0.0
    ranks = latent.query_rank + latent.key_value_rank
    each = workload.element_bytes * (ranks + latent.rope_dim) + workload.input_bytes * ranks
    return part.held_tokens * each


def _output_width(shape: Shape, tp: int) -> int:
    return attention_matrices(shape, tp=tp)[-1].rows


def _output_bytes(workload: Workload) -> float:
    """Return the bytes of attention's output: kept once, and again in FP8 for the projection."""
    return 3.0 if workload.precision is Precision.FP8 else workload.element_bytes
