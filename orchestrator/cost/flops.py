"""Model FLOPs: what the mathematics needs, whatever the layout does.

Shapes as in `shape.py`. A multiply-add is 2 FLOPs; backward is twice forward; the causal half
of attention that is masked away is not counted; recomputation is never a model FLOP.
"""

from dataclasses import dataclass
from functools import lru_cache

from orchestrator.cost.shape import (
    LayerKind,
    Matrix,
    Shape,
    attention_dims,
    attention_matrices,
    mlp_matrices,
)

BACKWARD_PER_FORWARD = 2
"""Gradients to inputs and to weights: two products for each one of the forward pass."""

CAUSAL_SHARE = 0.5
"""A token attends to itself and those before it: half of the [s, s] scores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardFlop:
    """FLOPs of one token's forward pass, by kind; they sum to the total."""

    matmul: float
    attention: float
    logits: float

    @property
    def total(self) -> float:
        """All kinds."""
        return self.matmul + self.attention + self.logits


def model_flop_per_step(shape: Shape, *, sequence: int, tokens: int) -> float:
    """Return the model FLOPs of an optimizer step over `tokens` tokens.

    3 x forward: matrices + causal attention + logits, with k of E experts and multi-token
    prediction where the model has it. Source: Korthikanti et al. 2022, eq. (7)-(9), with the
    causal half. Ignored: softmax, norms, activations, router sorting (below 1 %).
    """
    forward = forward_flop_per_token(shape, sequence=sequence)
    return tokens * (1 + BACKWARD_PER_FORWARD) * forward.total


@lru_cache(maxsize=256)
def forward_flop_per_token(shape: Shape, *, sequence: int) -> ForwardFlop:
    """Return the forward FLOPs of one token, averaged over the sequence."""
    kinds = (*shape.kinds, *([shape.mtp_kind] * shape.mtp_layers))
    matmul = sum(
        kinds.count(kind) * layer_matmul_flop(shape, kind=kind)
        for kind in LayerKind
        if kind in kinds
    )
    matmul += shape.mtp_layers * 2 * 2 * shape.hidden * shape.hidden
    return ForwardFlop(
        matmul=matmul,
        attention=len(kinds) * attention_flop(shape, sequence=sequence),
        logits=(1 + shape.mtp_layers) * 2 * shape.hidden * shape.vocab,
    )


def training_s(
    *, parameters: float, tokens: float, accelerators: int, flop_per_s: float, passes: int
) -> float:
    """Return the seconds of a whole training by the rule of thumb.

    2 x passes x N T / (n X): 3 passes (6 N T) without recomputation, 4 (8 N T) with all of it;
    X is what one accelerator achieves of the FLOPs so counted. Source: Narayanan et al. 2021,
    section 5.1, eq. (4). Ignored: attention and vocabulary, restarts.
    """
    return 2 * passes * parameters * tokens / (accelerators * flop_per_s)


def layer_matmul_flop(shape: Shape, *, kind: LayerKind) -> float:
    """Return the forward FLOPs of one token in the matrices of a layer: 2 x active elements."""
    elements = _elements(attention_matrices(shape, tp=1))
    if kind is LayerKind.DENSE:
        return 2 * (elements + _elements(mlp_matrices(shape, width=shape.ffn, tp=1)))
    elements += shape.topk * _elements(mlp_matrices(shape, width=shape.expert_ffn, tp=1))
    elements += _elements(mlp_matrices(shape, width=shape.shared_ffn, tp=1))
    return 2 * (elements + shape.hidden * shape.experts)


def attention_flop(shape: Shape, *, sequence: int) -> float:
    """Return the forward FLOPs of one token in the core of attention, averaged over the layers.

    2 k a (d_qk + d_v), k the keys a token attends to: s / 2 (causal), fewer behind a window.
    Source: Korthikanti et al. 2022, appendix A; Dao 2023 for the causal half.
    """
    query_dim, value_dim = attention_dims(shape)
    return 2 * attended_keys(shape, sequence=sequence) * shape.heads * (query_dim + value_dim)


def attended_keys(shape: Shape, *, sequence: int) -> float:
    """Return the keys that a token attends to, averaged over the sequence and the layers.

    Full: s / 2. Sliding window w < s: w - w^2 / (2 s), as the first w tokens see fewer. Chunks
    of w: w / 2. Source: counting the unmasked scores; the token itself counts half.
    """
    full = CAUSAL_SHARE * sequence
    window = shape.window
    if window is None or window.size >= sequence:
        return full
    w = window.size
    near = CAUSAL_SHARE * w if window.chunked else w - CAUSAL_SHARE * w * w / sequence
    return full + (near - full) * window.layers / shape.num_layers


def _elements(matrices: tuple[Matrix, ...]) -> int:
    return sum(matrix.size for matrix in matrices)
