"""The bill of one layer's forward pass, and of the head's, for one microbatch on one rank.

Shapes as in `shape.py`; T tokens and H held tokens as in `slice.py`. What is counted by whom is
said at each quantity; how long a unit takes is the business of `prices.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from orchestrator.cost.flops import CAUSAL_SHARE, attention_flop
from orchestrator.cost.parameters import layer_parameters
from orchestrator.cost.quantity import NUM_QUANTITIES, Quantity
from orchestrator.cost.shape import (
    LayerKind,
    Matrix,
    Shape,
    attention_dims,
    attention_matrices,
    mlp_matrices,
    qkv_width,
)
from orchestrator.cost.slice import Slice, expert_tokens
from orchestrator.cost.workload import Workload

Bill = npt.NDArray[np.float64]
"""Quantities of something: [NUM_QUANTITIES]."""

HIDDEN_PASSES = 10
"""Reads and writes of the hidden state in a layer: norms, residuals, biases; assumed."""

NORM_PASSES = 4
"""Those of them in the two norms: what recomputing `layernorm` does again; assumed."""

PERMUTE_PASSES = 4
"""Reads and writes of a routed token's hidden state: gather and scatter."""

EXPERT_BIAS_BYTES = 17.0
"""Bytes moved to add the bias of experts' outputs, an element and one of three passes: split by
expert, product with the probability and sum in FP32, joined, and back to 16 bits: 28 forward, 24
backward. Counted in megatron-core 0.16.1, `TEGroupedMLP._apply_bias`."""

CAST_BYTES = 4.0
"""Bytes moved to cast an element: read in 2 and written in 1 as it is and transposed."""

CAST_PASSES = 3
"""A third is billed here, as everything is later taken three times."""

LOSS_BYTES = 8.0
"""Bytes moved for a logit in one of three passes: FP32 softmax, loss, gradient; assumed."""

SCORE_BYTES = 8.0
"""Unfused attention: a score is written, read and written by softmax, read by the values."""

PRODUCT_BYTES = 2.0
"""Bytes of an operand's element, whatever the format: the unit in which traffic is told."""

ALIGNMENT = 8
"""Elements of 16 bits that tensor cores read at once; head dims that it does not divide are odd."""

USUAL_HEAD_DIM = 128
"""Fused kernels are made for heads this wide; narrower ones keep fewer of their units busy."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerBill:
    """Bills of a layer's forward pass by the module that recomputation can name.

    `up_projection` is the part of `projections` behind a latent and `output` the matrix after
    attention, `mlp_input` the part of `mlp` that reads the hidden state, `shared` the part of
    `mlp` in shared experts. `once` is what happens once for forward and backward together.
    """

    projections: Bill
    up_projection: Bill
    output: Bill
    core: Bill
    mlp: Bill
    mlp_input: Bill
    shared: Bill
    experts: Bill
    norms: Bill
    residuals: Bill
    rotary: Bill
    activation: Bill
    casts: Bill
    once: Bill

    @property
    def forward(self) -> Bill:
        """All that one forward pass computes."""
        return (
            self.projections
            + self.core
            + self.mlp
            + self.experts
            + self.norms
            + self.residuals
            + self.rotary
            + self.activation
            + self.casts
        )


@lru_cache(maxsize=65536)
def layer_bill(workload: Workload, part: Slice, *, kind: LayerKind) -> LayerBill:
    """Return the bill of one layer of a kind."""
    moe = kind is LayerKind.MOE
    shape, tokens = workload.shape, part.tokens
    attention = attention_matrices(shape, tp=part.tp)
    plain = mlp_matrices(shape, width=shape.shared_ffn if moe else shape.ffn, tp=part.tp)
    hidden = workload.element_bytes * shape.hidden * part.held_tokens
    empty = bill()
    return LayerBill(
        projections=_products(attention, tokens=tokens),
        up_projection=_products(_up_projections(shape, attention), tokens=tokens),
        output=_products(attention[-1:], tokens=tokens),
        core=_core(workload, part),
        mlp=_products(plain, tokens=tokens),
        mlp_input=_products(plain[:1], tokens=tokens),
        shared=_products(plain, tokens=tokens) if moe else empty,
        experts=_experts(workload, part) if moe else empty,
        norms=bill({Quantity.ELEMENT_BYTES: NORM_PASSES * hidden}),
        residuals=bill({Quantity.ELEMENT_BYTES: (HIDDEN_PASSES - NORM_PASSES) * hidden}),
        rotary=bill(
            {Quantity.ELEMENT_BYTES: workload.element_bytes * qkv_width(shape, tp=part.tp) * tokens}
        ),
        activation=_activation(workload, part, kind=kind),
        casts=_casts(workload, part, attention=attention, kind=kind),
        once=_once(workload, part, kind=kind),
    )


@lru_cache(maxsize=65536)
def head_bill(workload: Workload, part: Slice) -> Bill:
    """Return the bill of logits [T, h] x [h, v / t] and of a third of the loss's passes.

    The product is wide (BF16, FP32 in FP32) whatever the layers use.
    """
    columns = workload.padded_vocab(part.tp) // part.tp
    matrix = Matrix(rows=workload.shape.hidden, columns=columns)
    return bill(
        {
            Quantity.LOGIT_FLOP: _flop(matrix, tokens=part.tokens),
            Quantity.LOGIT_BYTES: _traffic(matrix, tokens=part.tokens),
            Quantity.LOSS_BYTES: LOSS_BYTES * part.tokens * columns,
        }
    )


@lru_cache(maxsize=65536)
def mtp_projection_bill(workload: Workload, part: Slice) -> Bill:
    """Return the bill of multi-token prediction's [2h, h / t] projection."""
    hidden = workload.shape.hidden
    matrix = Matrix(rows=2 * hidden, columns=hidden // part.tp)
    return _products((matrix,), tokens=part.tokens)


def bill(entries: dict[Quantity, float] | None = None) -> Bill:
    """Return a bill of these entries, everything else nothing."""
    vector = np.zeros(NUM_QUANTITIES)
    for quantity, amount in (entries or {}).items():
        vector[quantity] += amount
    return vector


def _products(matrices: tuple[Matrix, ...], *, tokens: float) -> Bill:
    return bill(
        {
            Quantity.GEMM_FLOP: sum(_flop(matrix, tokens=tokens) for matrix in matrices),
            Quantity.GEMM_BYTES: sum(_traffic(matrix, tokens=tokens) for matrix in matrices),
        }
    )


def _flop(matrix: Matrix, *, tokens: float) -> float:
    """Return 2 M N K of [M, K] x [K, N]."""
    return 2 * tokens * matrix.size


def _traffic(matrix: Matrix, *, tokens: float) -> float:
    """Return 2 (M K + K N + M N), the bytes of both operands and the result in 16 bits."""
    return PRODUCT_BYTES * (tokens * (matrix.rows + matrix.columns) + matrix.size)


def _core(workload: Workload, part: Slice) -> Bill:
    """Return the bill of scores, softmax and values.

    Causal FLOPs x T / t. `EDGE` is FLOPs / s: blocks on the diagonal are computed whole.
    `NARROW` is FLOPs x (128 / d - 1) for narrow heads. A model with softmax sinks is billed its
    full causal triangle, as kernels with sinks do not skip what a window hides.
    """
    shape, sequence = workload.shape, workload.sequence
    attended = attention_flop(shape, sequence=sequence)
    if shape.sinks and shape.window is not None:
        attended = 2 * CAUSAL_SHARE * sequence * shape.heads * sum(attention_dims(shape))
    flop = attended * part.tokens / part.tp
    dim = sum(attention_dims(shape)) / 2
    scores = shape.heads / part.tp * part.tokens * sequence
    return bill(
        {
            Quantity.ATTENTION_FLOP: flop,
            Quantity.ATTENTION_EDGE_FLOP: flop / sequence,
            Quantity.ATTENTION_NARROW_FLOP: flop * max(0.0, USUAL_HEAD_DIM / dim - 1),
            Quantity.ATTENTION_ODD_FLOP: flop if shape.head_dim % ALIGNMENT else 0.0,
            Quantity.SCORE_BYTES: SCORE_BYTES * scores,
        }
    )


def _experts(workload: Workload, part: Slice) -> Bill:
    """Return the bill of router and experts, each expert with its even share of the tokens."""
    shape = workload.shape
    local = _local_experts(shape, part)
    rows = max(1.0, expert_tokens(shape, part) / local)
    matrices = mlp_matrices(shape, width=shape.expert_ffn, tp=part.etp)
    router = Matrix(rows=shape.hidden, columns=shape.experts)
    return bill(
        {
            Quantity.GROUPED_FLOP: local * sum(_flop(one, tokens=rows) for one in matrices),
            Quantity.GROUPED_BYTES: local * sum(_traffic(one, tokens=rows) for one in matrices),
            Quantity.WIDE_FLOP: _flop(router, tokens=part.held_tokens),
            Quantity.WIDE_BYTES: _traffic(router, tokens=part.held_tokens),
        }
    )


def _activation(workload: Workload, part: Slice, *, kind: LayerKind) -> Bill:
    """Return the bill of activation functions, and of permuting tokens by expert."""
    shape = workload.shape
    entries = {
        Quantity.ELEMENT_BYTES: workload.element_bytes * _summed(shape, part, _widened, kind=kind)
    }
    if kind is LayerKind.MOE:
        pairs = expert_tokens(shape, part)
        entries[Quantity.PERMUTED_BYTES] = (
            PERMUTE_PASSES * workload.element_bytes * shape.hidden * pairs
        )
        if shape.linear_bias:
            entries[Quantity.ELEMENT_BYTES] += EXPERT_BIAS_BYTES * shape.hidden * pairs
    return bill(entries)


def _casts(
    workload: Workload, part: Slice, *, attention: tuple[Matrix, ...], kind: LayerKind
) -> Bill:
    """Return the bill of casting to a narrow format, empty in wide ones.

    Inputs of every product forward, gradients of every output backward. Ignored: scales.
    """
    if not workload.matmul_format.is_narrow:
        return bill()
    elements = _ends(attention) * part.tokens + _summed(workload.shape, part, _ends, kind=kind)
    return bill({Quantity.CAST_BYTES: CAST_BYTES * elements / CAST_PASSES})


def _once(workload: Workload, part: Slice, *, kind: LayerKind) -> Bill:
    """Return the layer's launches, and the gradients its backward adds to those before."""
    held = layer_parameters(workload.shape, kind=kind, tp=part.tp, etp=part.etp, ep=part.ep)
    moe = kind is LayerKind.MOE
    return bill(
        {
            Quantity.LAYERS: 1,
            Quantity.MOE_LAYERS: float(moe),
            Quantity.EXPERTS: _local_experts(workload.shape, part) if moe else 0,
            Quantity.ACCUMULATED_BYTES: 2 * workload.gradient_bytes * held.total,
        }
    )


def _local_experts(shape: Shape, part: Slice) -> int:
    """Return the experts whose products a rank computes."""
    return max(1, shape.experts // part.ep)


def _summed(
    shape: Shape, part: Slice, count: Callable[[tuple[Matrix, ...]], int], *, kind: LayerKind
) -> float:
    """Return a count for each token over the MLP of a layer: dense, or experts and shared."""
    if kind is LayerKind.DENSE:
        return count(mlp_matrices(shape, width=shape.ffn, tp=part.tp)) * part.tokens
    shared = count(mlp_matrices(shape, width=shape.shared_ffn, tp=part.tp)) * part.tokens
    expert = count(mlp_matrices(shape, width=shape.expert_ffn, tp=part.etp))
    return shared + expert * expert_tokens(shape, part)


def _widened(matrices: tuple[Matrix, ...]) -> int:
    """Return what an activation function reads and writes for a token."""
    return matrices[0].columns + matrices[1].rows if matrices else 0


def _ends(matrices: tuple[Matrix, ...]) -> int:
    """Return inputs and outputs of products for a token."""
    return sum(matrix.rows + matrix.columns for matrix in matrices)


def _up_projections(shape: Shape, matrices: tuple[Matrix, ...]) -> tuple[Matrix, ...]:
    if shape.latent is None:
        return ()
    return tuple(matrix for matrix in matrices[:-1] if matrix.rows != shape.hidden)
