"""The integers of a model card that formulas read, and the matrices they make.

Legend, used in brackets throughout `cost`: b micro batch, s sequence, h hidden, f FFN width,
a heads, g query groups, d head dim, v vocabulary, E experts, k experts of a token,
L layers, t tensor parallel, c context parallel, p pipeline ranks, m microbatches.
Everything is counted for one rank: a matrix is given as the part that the rank holds.
"""

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from orchestrator.specs.layers import WindowSpec
from orchestrator.specs.model import MlaSpec, ModelCard


class LayerKind(StrEnum):
    """What follows attention in a layer: one MLP, or experts with a router."""

    DENSE = "dense"
    MOE = "moe"


@dataclass(frozen=True, slots=True, kw_only=True)
class Latent:
    """The ranks and widths of multi-latent attention; `query_rank` 0 means no query latent."""

    query_rank: int
    key_value_rank: int
    nope_dim: int
    rope_dim: int
    value_dim: int

    @property
    def query_dim(self) -> int:
        """Width of one head's query or key: the part with and the part without positions."""
        return self.nope_dim + self.rope_dim


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Attention over a part of the sequence: how many tokens, and in how many of the layers.

    Sliding, a token looks at the last `size`; chunked, at those before it in its chunk of `size`.
    """

    size: int
    layers: int
    chunked: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shape:
    """A decoder-only transformer as numbers.

    Compared by identity: formulas remember their results by it, and hashing all its fields would
    cost more than most of them.

    `positions` counts learned position rows (0 with rotary ones), `norm_vectors` the vectors of
    a normalisation (2 for LayerNorm, 1 for RMSNorm), `layer_norms` the normalisations of a layer
    beside those of queries and keys, `sinks` the learned numbers that join a layer's softmax (one
    a head), `kinds` names each layer's kind, `group_limit` how many groups of experts a token may
    reach (0: no limit).
    """

    hidden: int
    ffn: int
    heads: int
    groups: int
    head_dim: int
    vocab: int
    positions: int
    norm_vectors: int
    layer_norms: int
    sinks: int
    gated: bool
    tied: bool
    qkv_bias: bool
    linear_bias: bool
    qk_norm: bool
    mtp_layers: int
    kinds: tuple[LayerKind, ...]
    experts: int
    topk: int
    expert_ffn: int
    shared_ffn: int
    group_limit: int
    latent: Latent | None
    window: Window | None

    @property
    def num_layers(self) -> int:
        """Decoder layers, without multi-token prediction."""
        return len(self.kinds)

    @property
    def gates(self) -> int:
        """Matrices of the MLP that read the hidden state: 2 when gated, else 1."""
        return 2 if self.gated else 1

    @property
    def mtp_kind(self) -> LayerKind:
        """Kind of the layer that multi-token prediction repeats: the last one's."""
        return self.kinds[-1]

    def count(self, kind: LayerKind) -> int:
        """Return the decoder layers of a kind, without multi-token prediction."""
        return self.kinds.count(kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """A weight matrix as one rank holds it: [rows, columns] = [inputs, outputs]."""

    rows: int
    columns: int

    @property
    def size(self) -> int:
        """Elements."""
        return self.rows * self.columns


def shape_of(card: ModelCard) -> Shape:
    """Return the numbers of a model card."""
    moe = card.moe
    return Shape(
        hidden=card.hidden_size,
        ffn=card.ffn_hidden_size,
        heads=card.num_attention_heads,
        groups=card.num_query_groups,
        head_dim=card.head_dim,
        vocab=card.vocab_size,
        positions=card.max_sequence_length if card.position_embedding == "learned_absolute" else 0,
        norm_vectors=2 if card.normalization == "LayerNorm" else 1,
        layer_norms=4 if card.post_norms else 2,
        sinks=card.num_attention_heads if card.attention_sinks else 0,
        gated=card.gated_mlp,
        tied=card.tied_embeddings,
        qkv_bias=card.qkv_bias,
        linear_bias=card.linear_bias,
        qk_norm=card.qk_norm,
        mtp_layers=card.mtp_num_layers,
        kinds=tuple(
            LayerKind.MOE if card.is_moe_layer(layer) else LayerKind.DENSE
            for layer in range(card.num_layers)
        ),
        experts=moe.num_experts if moe else 0,
        topk=moe.router_topk if moe else 0,
        expert_ffn=moe.moe_ffn_hidden_size if moe else 0,
        shared_ffn=moe.shared_expert_intermediate_size if moe else 0,
        group_limit=(moe.group_topk or 0) if moe else 0,
        latent=_latent_of(card.mla) if card.mla else None,
        window=_window_of(card, card.window) if card.window else None,
    )


@lru_cache(maxsize=4096)
def attention_matrices(shape: Shape, *, tp: int) -> tuple[Matrix, ...]:
    """Return the matrices of one attention block on a tensor-parallel rank.

    Grouped queries: [h, (a + 2g)d / t] and [ad / t, h]; a rank holds at least one group.
    Latent attention: the down projections are whole on every rank (Megatron duplicates them).
    """
    if shape.latent is not None:
        return _latent_matrices(shape, shape.latent, tp=tp)
    queries = shape.heads // tp
    keys_values = 2 * max(1, shape.groups // tp)
    return (
        Matrix(rows=shape.hidden, columns=(queries + keys_values) * shape.head_dim),
        Matrix(rows=queries * shape.head_dim, columns=shape.hidden),
    )


@lru_cache(maxsize=4096)
def mlp_matrices(shape: Shape, *, width: int, tp: int) -> tuple[Matrix, ...]:
    """Return the matrices of one MLP (or one expert) of that width on a rank."""
    if width == 0:
        return ()
    return (
        Matrix(rows=shape.hidden, columns=shape.gates * width // tp),
        Matrix(rows=width // tp, columns=shape.hidden),
    )


def attention_dims(shape: Shape) -> tuple[int, int]:
    """Return the width of a head's query and of its value."""
    if shape.latent is None:
        return shape.head_dim, shape.head_dim
    return shape.latent.query_dim, shape.latent.value_dim


def key_value_width(shape: Shape, *, tp: int) -> int:
    """Return the keys and values of a token that a tensor-parallel rank computes with."""
    query_dim, value_dim = attention_dims(shape)
    groups = shape.groups if shape.latent is None else shape.heads
    return max(1, groups // tp) * (query_dim + value_dim)


def qkv_width(shape: Shape, *, tp: int) -> int:
    """Return the queries, keys and values of a token that a tensor-parallel rank computes with."""
    return shape.heads // tp * attention_dims(shape)[0] + key_value_width(shape, tp=tp)


def _latent_matrices(shape: Shape, latent: Latent, *, tp: int) -> tuple[Matrix, ...]:
    heads, h = shape.heads // tp, shape.hidden
    queries = heads * latent.query_dim
    query: tuple[Matrix, ...] = (Matrix(rows=h, columns=queries),)
    if latent.query_rank:
        query = (
            Matrix(rows=h, columns=latent.query_rank),
            Matrix(rows=latent.query_rank, columns=queries),
        )
    return (
        *query,
        Matrix(rows=h, columns=latent.key_value_rank + latent.rope_dim),
        Matrix(rows=latent.key_value_rank, columns=heads * (latent.nope_dim + latent.value_dim)),
        Matrix(rows=heads * latent.value_dim, columns=h),
    )


def _latent_of(spec: MlaSpec) -> Latent:
    return Latent(
        query_rank=spec.q_lora_rank or 0,
        key_value_rank=spec.kv_lora_rank,
        nope_dim=spec.qk_nope_head_dim,
        rope_dim=spec.qk_rope_head_dim,
        value_dim=spec.v_head_dim,
    )


def _window_of(card: ModelCard, spec: WindowSpec) -> Window:
    windowed = [layer for layer in range(card.num_layers) if spec.is_windowed_layer(layer)]
    return Window(size=spec.size, layers=len(windowed), chunked=spec.kind == "chunked")
