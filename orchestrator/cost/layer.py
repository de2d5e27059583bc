"""Seconds of computation of one layer, and of the head, for one microbatch on one rank.

Shapes as in `shape.py`; T tokens as in `slice.py`. Only forward passes are priced here:
backward is twice forward in every part.
"""

from dataclasses import dataclass
from functools import lru_cache

from orchestrator.cost import elementwise
from orchestrator.cost.flops import attention_flop
from orchestrator.cost.matmul import expert_matmuls_s, matmul_s, matmuls_s
from orchestrator.cost.shape import LayerKind, Matrix, Shape, attention_matrices, mlp_matrices
from orchestrator.cost.slice import Slice
from orchestrator.cost.workload import Workload

SEQUENCE_PENALTY = 224.0
"""Attention time x (1 + this / s): short sequences fill the kernel badly (fit)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerForward:
    """Forward seconds of a layer by the module that recomputation can name.

    `up_projection_s` is the part of `attention_matmul_s` behind a latent, `shared_matmul_s` the
    part of `mlp_matmul_s` in shared experts.
    """

    attention_matmul_s: float
    up_projection_s: float
    core_attention_s: float
    mlp_matmul_s: float
    shared_matmul_s: float
    hidden_s: float
    qkv_s: float
    activation_s: float
    cast_s: float

    @property
    def matmul_s(self) -> float:
        """All matrix products."""
        return self.attention_matmul_s + self.mlp_matmul_s

    @property
    def elementwise_s(self) -> float:
        """All kernels that are bound by memory."""
        return self.hidden_s + self.qkv_s + self.activation_s + self.cast_s

    @property
    def total_s(self) -> float:
        """The whole forward pass, without communication."""
        return self.matmul_s + self.core_attention_s + self.elementwise_s


@lru_cache(maxsize=65536)
def layer_forward(workload: Workload, part: Slice, *, kind: LayerKind) -> LayerForward:
    """Return the forward seconds of one layer; `kind` says which."""
    moe = kind is LayerKind.MOE
    shape, tokens = workload.shape, part.tokens
    attention = attention_matrices(shape, tp=part.tp)
    plain = mlp_matrices(shape, width=shape.shared_ffn if moe else shape.ffn, tp=part.tp)
    plain_s = matmuls_s(workload, plain, tokens=tokens)
    return LayerForward(
        attention_matmul_s=matmuls_s(workload, attention, tokens=tokens),
        up_projection_s=matmuls_s(workload, _up_projections(shape, attention), tokens=tokens),
        core_attention_s=core_attention_s(workload, part),
        mlp_matmul_s=plain_s + (expert_matmuls_s(workload, part) if moe else 0.0),
        shared_matmul_s=plain_s if moe else 0.0,
        hidden_s=elementwise.hidden_s(workload, part),
        qkv_s=elementwise.qkv_s(workload, part),
        activation_s=elementwise.activation_s(workload, part, kind=kind),
        cast_s=elementwise.cast_s(workload, part, attention=attention, kind=kind),
    )


def core_attention_s(workload: Workload, part: Slice) -> float:
    """Return the forward seconds of scores, softmax and values.

    Causal FLOPs x T / t over the attention rate, x (1 + 224 / s). Source: fit, forward and
    backward together; the split 1 : 2 is that of the FLOPs. Ignored: imbalance of ring chunks.
    """
    flop = attention_flop(workload.shape, sequence=workload.sequence) * part.tokens / part.tp
    rate = workload.chip.attention_flop_per_s
    return flop / rate * (1 + SEQUENCE_PENALTY / workload.sequence)


@lru_cache(maxsize=65536)
def head_forward_s(workload: Workload, part: Slice) -> float:
    """Return the forward seconds of logits [T, h] x [h, v / t] and a third of the loss's passes.

    The product is wide (BF16, FP32 in FP32) whatever the layers use.
    """
    columns = workload.padded_vocab(part.tp) // part.tp
    product_s = matmul_s(
        Matrix(rows=workload.shape.hidden, columns=columns),
        tokens=part.tokens,
        flop_per_s=workload.chip.wide_matmul_flop_per_s,
    )
    return product_s + elementwise.loss_s(workload, part)


def mtp_projection_s(workload: Workload, part: Slice) -> float:
    """Return the forward seconds of multi-token prediction's [2h, h / t] projection."""
    hidden = workload.shape.hidden
    matrix = Matrix(rows=2 * hidden, columns=hidden // part.tp)
    return matmuls_s(workload, (matrix,), tokens=part.tokens)


def _up_projections(shape: Shape, matrices: tuple[Matrix, ...]) -> tuple[Matrix, ...]:
    if shape.latent is None:
        return ()
    return tuple(matrix for matrix in matrices[:-1] if matrix.rows != shape.hidden)
