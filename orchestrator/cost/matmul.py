"""Seconds of matrix products, plain and grouped by expert.

Shapes as in `shape.py`; T tokens as in `slice.py`. Forward only: backward is twice that.
"""

from orchestrator.cost.shape import Matrix, mlp_matrices
from orchestrator.cost.slice import Slice, expert_tokens
from orchestrator.cost.workload import Workload
from orchestrator.specs.choices import Precision

DENSE_SHAPE_PENALTY = 50.0
"""Time x (1 + this x (1/M + 1/N + 1/K)): tiles and waves left empty by small dims (fit)."""

GROUPED_SHAPE_PENALTY = 765.0
"""The same for grouped products, one for each expert, where M is tokens of an expert (fit)."""

GROUPED_SLOWDOWN = 1.14
"""Time of grouped over plain products of the same large shape (fit)."""

GROUPED_FP8_SLOWDOWN = 1.12
"""A further factor in FP8 (fit)."""


def matmul_s(
    matrix: Matrix, *, tokens: float, flop_per_s: float, penalty: float = DENSE_SHAPE_PENALTY
) -> float:
    """Return the seconds of [M, K] x [K, N].

    2 M N K / rate x (1 + penalty (1/M + 1/N + 1/K)). Source: form and constants fitted on
    published training rows (docs/cost-model.md). Ignored: exact tile counts, +-5 % for a shape.
    """
    inverse = 1 / tokens + 1 / matrix.rows + 1 / matrix.columns
    return 2 * tokens * matrix.size / flop_per_s * (1 + penalty * inverse)


def matmuls_s(workload: Workload, matrices: tuple[Matrix, ...], *, tokens: float) -> float:
    """Return the seconds of [T, rows] times each matrix, at the precision of the layers."""
    rate = workload.chip.matmul_flop_per_s
    return sum(matmul_s(matrix, tokens=tokens, flop_per_s=rate) for matrix in matrices)


def expert_matmuls_s(workload: Workload, part: Slice) -> float:
    """Return the seconds of the router and of a rank's experts.

    Each expert has its even share of the routed tokens. The router runs wide, on the tokens
    that a rank holds. Ignored: unbalanced experts (the slowest rank waits for none here).
    """
    shape, chip = workload.shape, workload.chip
    local_experts = max(1, shape.experts // part.ep)
    rows = max(1.0, expert_tokens(shape, part) / local_experts)
    fp8 = workload.precision is Precision.FP8
    slowdown = GROUPED_SLOWDOWN * (GROUPED_FP8_SLOWDOWN if fp8 else 1.0)
    one = sum(
        matmul_s(
            matrix,
            tokens=rows,
            flop_per_s=chip.matmul_flop_per_s,
            penalty=GROUPED_SHAPE_PENALTY,
        )
        for matrix in mlp_matrices(shape, width=shape.expert_ffn, tp=part.etp)
    )
    router = Matrix(rows=shape.hidden, columns=shape.experts)
    router_s = matmul_s(router, tokens=part.held_tokens, flop_per_s=chip.wide_matmul_flop_per_s)
    return local_experts * one * slowdown + router_s
