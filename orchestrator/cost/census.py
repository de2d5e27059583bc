"""What a model is made of: its parameters and its FLOPs by part, each sum equal to the whole.

Shapes as in `shape.py`. Nothing is counted anew: the parts are those of `parameters.py` and
`flops.py`, told apart for people who want to know where a number comes from.
"""

from dataclasses import dataclass, fields

from orchestrator.cost.flops import attention_flop, layer_matmul_flop
from orchestrator.cost.parameters import (
    attention_parameters,
    final_norm_parameters,
    layer_norm_parameters,
    mlp_parameters,
    router_parameters,
)
from orchestrator.cost.shape import LayerKind, Matrix, Shape, attention_matrices, mlp_matrices


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterCensus:
    """Parameters by part, without multi-token prediction; they sum to the total.

    `mlp` is that of dense layers; `output` is 0 where the embedding serves as output matrix.
    """

    embedding: int
    positions: int
    attention: int
    mlp: int
    experts: int
    shared_experts: int
    router: int
    norms: int
    output: int

    @property
    def total(self) -> int:
        """All of them, equal to `total_parameters`."""
        return sum(getattr(self, field.name) for field in fields(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class FlopCensus:
    """FLOPs of one token's forward pass by part; they sum to the total.

    `experts` are the k that a token meets; `mtp` is all of multi-token prediction: its layers,
    their projections and their logits.
    """

    attention_projections: float
    attention_core: float
    mlp: float
    experts: float
    shared_experts: float
    router: float
    logits: float
    mtp: float

    @property
    def total(self) -> float:
        """All of them, equal to `forward_flop_per_token`."""
        return float(sum(getattr(self, field.name) for field in fields(self)))


def parameter_census(shape: Shape) -> ParameterCensus:
    """Return all parameters by part."""
    moe, dense = shape.count(LayerKind.MOE), shape.count(LayerKind.DENSE)
    embedding = shape.vocab * shape.hidden
    norms = shape.num_layers * layer_norm_parameters(shape) + final_norm_parameters(shape)
    return ParameterCensus(
        embedding=embedding,
        positions=shape.positions * shape.hidden,
        attention=shape.num_layers * attention_parameters(shape),
        mlp=dense * mlp_parameters(shape, width=shape.ffn),
        experts=moe * shape.experts * mlp_parameters(shape, width=shape.expert_ffn),
        shared_experts=moe * mlp_parameters(shape, width=shape.shared_ffn),
        router=moe * router_parameters(shape),
        norms=norms,
        output=0 if shape.tied else embedding,
    )


def flop_census(shape: Shape, *, sequence: int) -> FlopCensus:
    """Return the forward FLOPs of one token by part, averaged over the sequence.

    A matrix [n, m] is 2 n m; the core of attention is counted with its causal half and its
    windows (`flops.attended_keys`). Source: as `flops.py`.
    """
    moe, dense = shape.count(LayerKind.MOE), shape.count(LayerKind.DENSE)
    logits = 2.0 * shape.hidden * shape.vocab
    core = attention_flop(shape, sequence=sequence)
    depth = layer_matmul_flop(shape, kind=shape.mtp_kind) + core + 4 * shape.hidden**2 + logits
    return FlopCensus(
        attention_projections=shape.num_layers * _flop(attention_matrices(shape, tp=1)),
        attention_core=shape.num_layers * core,
        mlp=dense * _flop(mlp_matrices(shape, width=shape.ffn, tp=1)),
        experts=moe * shape.topk * _flop(mlp_matrices(shape, width=shape.expert_ffn, tp=1)),
        shared_experts=moe * _flop(mlp_matrices(shape, width=shape.shared_ffn, tp=1)),
        router=moe * 2.0 * shape.hidden * shape.experts,
        logits=logits,
        mtp=shape.mtp_layers * depth,
    )


def _flop(matrices: tuple[Matrix, ...]) -> float:
    return 2.0 * sum(matrix.size for matrix in matrices)
