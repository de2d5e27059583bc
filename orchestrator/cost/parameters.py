"""Exact parameter counts: of a model, and of what one rank of a layout holds.

Shapes as in `shape.py`. Nothing is approximated: norms, biases, routers and learned positions
count; buffers that no optimizer updates (rotary tables, router correction biases) do not.
"""

from dataclasses import dataclass
from functools import lru_cache

from orchestrator.cost.shape import LayerKind, Matrix, Shape, attention_matrices, mlp_matrices


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Parameters on a rank; experts are apart because they are sharded over other ranks."""

    dense: int
    expert: int

    @property
    def total(self) -> int:
        """All parameters on the rank."""
        return self.dense + self.expert


def total_parameters(shape: Shape) -> int:
    """Return the parameters of a model without multi-token prediction.

    sum over layers (attention + MLP or experts + norms + biases) + embedding [v, h] + learned
    positions + final norm + output matrix [h, v] unless tied. Source: the model cards' own
    configurations (Llama 3.1 405B: 405,853,388,800 in the published checkpoint).
    The vocabulary is not padded here.
    """
    layers = sum(layer_parameters(shape, kind=kind).total for kind in shape.kinds)
    output = 0 if shape.tied else shape.vocab * shape.hidden
    return layers + embedding_parameters(shape, vocab=shape.vocab) + output + _norm(shape)


def active_parameters(shape: Shape) -> int:
    """Return the parameters that one token meets: k of E experts, everything else whole."""
    idle = shape.experts - shape.topk
    one = mlp_parameters(shape, width=shape.expert_ffn)
    return total_parameters(shape) - shape.count(LayerKind.MOE) * idle * one


def mtp_parameters(shape: Shape) -> int:
    """Return what multi-token prediction adds: a layer, [2h, h] and three norms for each depth.

    Source: DeepSeek-V3 (arXiv:2412.19437), section 2.2; embedding and output are shared.
    """
    layer = layer_parameters(shape, kind=shape.mtp_kind).total
    return shape.mtp_layers * (layer + mtp_projection_parameters(shape))


def mtp_projection_parameters(shape: Shape, *, tp: int = 1) -> int:
    """Return a depth's parameters beside its layer: [2h, h / t] and three norms."""
    return 2 * shape.hidden * shape.hidden // tp + 3 * _norm(shape)


@lru_cache(maxsize=4096)
def layer_parameters(
    shape: Shape, *, kind: LayerKind, tp: int = 1, etp: int = 1, ep: int = 1
) -> Held:
    """Return the parameters of one decoder layer on a rank of (t, etp, ep).

    Column- and row-parallel matrices are cut by t, experts by etp and ep, softmax sinks by t;
    norms, routers and the biases after row-parallel matrices are whole on every rank (Megatron).
    """
    dense = attention_parameters(shape, tp=tp) + layer_norm_parameters(shape)
    if kind is LayerKind.DENSE:
        return Held(dense=dense + mlp_parameters(shape, width=shape.ffn, tp=tp), expert=0)
    shared = mlp_parameters(shape, width=shape.shared_ffn, tp=tp)
    one = mlp_parameters(shape, width=shape.expert_ffn, tp=etp)
    return Held(dense=dense + router_parameters(shape) + shared, expert=shape.experts // ep * one)


def attention_parameters(shape: Shape, *, tp: int = 1) -> int:
    """Return the matrices, biases and softmax sinks of one attention block on a rank."""
    width = (shape.heads // tp + 2 * max(1, shape.groups // tp)) * shape.head_dim
    biases = (width if shape.qkv_bias else 0) + (shape.hidden if shape.linear_bias else 0)
    return _sum(attention_matrices(shape, tp=tp)) + biases + shape.sinks // tp


def mlp_parameters(shape: Shape, *, width: int, tp: int = 1) -> int:
    """Return the matrices and biases of one MLP (or one expert) of that width on a rank."""
    if width == 0:
        return 0
    biases = shape.gates * width // tp + shape.hidden if shape.linear_bias else 0
    return _sum(mlp_matrices(shape, width=width, tp=tp)) + biases


def layer_norm_parameters(shape: Shape) -> int:
    """Return the normalisations of a layer: before (and after) attention and MLP, queries, keys."""
    return shape.layer_norms * _norm(shape) + (_qk_norm(shape) if shape.qk_norm else 0)


def router_parameters(shape: Shape) -> int:
    """Return an MoE layer's router [h, E], with a bias where all matrices have one (Megatron)."""
    return shape.hidden * shape.experts + (shape.experts if shape.linear_bias else 0)


def embedding_parameters(shape: Shape, *, vocab: int, tp: int = 1) -> int:
    """Return token embedding [v / t, h] and learned positions (whole on every rank)."""
    return vocab // tp * shape.hidden + shape.positions * shape.hidden


def head_parameters(shape: Shape, *, vocab: int, tp: int = 1) -> int:
    """Return final norm and output matrix [h, v / t] as a last stage apart from the first holds it.

    A tied output is a copy there, kept equal by an all-reduce (Megatron).
    """
    return _norm(shape) + vocab // tp * shape.hidden


def final_norm_parameters(shape: Shape) -> int:
    """Return the parameters of the last normalisation."""
    return _norm(shape)


def _norm(shape: Shape) -> int:
    return shape.norm_vectors * shape.hidden


def _qk_norm(shape: Shape) -> int:
    latent = shape.latent
    if latent is None:
        return 2 * shape.norm_vectors * shape.head_dim
    return shape.norm_vectors * (latent.query_rank + latent.key_value_rank)


def _sum(matrices: tuple[Matrix, ...]) -> int:
    return sum(matrix.size for matrix in matrices)
