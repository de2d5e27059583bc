"""Seconds of what is bound by memory: norms, residuals, activations, casts, permutation, loss.

Shapes as in `shape.py`; T tokens, H held tokens as in `slice.py`. Forward only: backward moves
twice the bytes. Source: the constants are a fit on published training rows (docs/cost-model.md)
unless marked; what is counted was chosen with them.
"""

from collections.abc import Callable

from orchestrator.cost.shape import LayerKind, Matrix, Shape, mlp_matrices, qkv_width
from orchestrator.cost.slice import Slice, expert_tokens
from orchestrator.cost.workload import Workload
from orchestrator.specs.choices import Precision

ELEMENTWISE_FACTOR = 1.56
"""What element-wise kernels move over the bytes counted here (fit)."""

HIDDEN_PASSES = 10
"""Reads and writes of the hidden state in a layer: norms, residuals, biases (fit: 20 bytes)."""

PERMUTE_FACTOR = 0.67
"""Bytes moved over bytes counted in gathering tokens by expert and back (fit)."""

PERMUTE_PASSES = 4
"""Reads and writes of a routed token's hidden state: gather and scatter."""

CAST_BYTES = 4.0
"""FP8: bytes moved to cast an element, read in 2 and written in 1 as it is and transposed."""

LOSS_BYTES = 16.0
"""Bytes moved for a logit by softmax, loss and gradient, both ways; assumed, FP32 copies."""


def hidden_s(workload: Workload, part: Slice) -> float:
    """Return the seconds of norms, residuals and biases: 10 passes over [H, h]."""
    elements = HIDDEN_PASSES * workload.shape.hidden * part.held_tokens
    return elementwise_s(workload, workload.element_bytes * elements)


def qkv_s(workload: Workload, part: Slice) -> float:
    """Return the seconds of rotary embedding and layout changes: a pass over [T, qkv / t]."""
    elements = qkv_width(workload.shape, tp=part.tp) * part.tokens
    return elementwise_s(workload, workload.element_bytes * elements)


def activation_s(workload: Workload, part: Slice, *, kind: LayerKind) -> float:
    """Return the seconds of activation functions, and of permuting tokens by expert."""
    return elementwise_s(
        workload, workload.element_bytes * _summed(workload.shape, part, _widened, kind=kind)
    ) + (_permute_s(workload, part) if kind is LayerKind.MOE else 0.0)


def cast_s(
    workload: Workload, part: Slice, *, attention: tuple[Matrix, ...], kind: LayerKind
) -> float:
    """Return the seconds of casting to FP8, nothing in other precisions.

    Inputs of every product forward, gradients of every output backward; a third is counted
    here, as all is later taken three times. Ignored: scales and their maxima.
    """
    if workload.precision is not Precision.FP8:
        return 0.0
    elements = _ends(attention) * part.tokens + _summed(workload.shape, part, _ends, kind=kind)
    return elementwise_s(workload, CAST_BYTES * elements / 3)


def loss_s(workload: Workload, part: Slice) -> float:
    """Return a third of the seconds of softmax, loss and gradient over [T, v / t]."""
    logits = part.tokens * workload.padded_vocab(part.tp) // part.tp
    return LOSS_BYTES * logits / 3 / workload.chip.memory_bytes_per_s


def elementwise_s(workload: Workload, counted_bytes: float) -> float:
    """Return the seconds of moving bytes counted as in this file."""
    return ELEMENTWISE_FACTOR * counted_bytes / workload.chip.memory_bytes_per_s


def _summed(
    shape: Shape, part: Slice, count: Callable[[tuple[Matrix, ...]], int], *, kind: LayerKind
) -> float:
    """Return a count for each token over the MLP of a layer: dense, or experts and shared."""
    if kind is LayerKind.DENSE:
        return count(mlp_matrices(shape, width=shape.ffn, tp=part.tp)) * part.tokens
    shared = count(mlp_matrices(shape, width=shape.shared_ffn, tp=part.tp)) * part.tokens
    expert = count(mlp_matrices(shape, width=shape.expert_ffn, tp=part.etp))
    return shared + expert * expert_tokens(shape, part)


def _permute_s(workload: Workload, part: Slice) -> float:
    pairs = expert_tokens(workload.shape, part)
    passes = PERMUTE_PASSES * workload.element_bytes * workload.shape.hidden * pairs
    return PERMUTE_FACTOR * passes / workload.chip.memory_bytes_per_s


def _widened(matrices: tuple[Matrix, ...]) -> int:
    """Return what an activation function reads and writes for a token."""
    return matrices[0].columns + matrices[1].rows if matrices else 0


def _ends(matrices: tuple[Matrix, ...]) -> int:
    """Return inputs and outputs of products for a token."""
    return sum(matrix.rows + matrix.columns for matrix in matrices)
