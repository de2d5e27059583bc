"""The collectives of decoder layers, embedding and head for one microbatch on one rank.

T tokens of the microbatch on the rank, h hidden, e bytes of an element; W = T h e is a hidden
state, whole; P = W / t the part of it that a tp rank keeps with sequence parallelism.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from orchestrator.cost.collective import Axis, Collective, Kind, group_size
from orchestrator.cost.shape import LayerKind, Shape, attention_dims, key_value_width
from orchestrator.records.layout import Layout
from orchestrator.specs.choices import CpCommType, RecomputeGranularity

_FP32_BYTES = 4
_COUNT_BYTES = 8  # token counts travel as 64-bit integers


@dataclass(frozen=True, slots=True, kw_only=True)
class Microbatch:
    """What one microbatch is on this rank.

    `tokens` is T, `router_bytes` of a routing weight, `balance_counts` how many counts of tokens an
    auxiliary loss sums: one an expert, one an expert and sequence, or none.
    """

    shape: Shape
    layout: Layout
    tokens: int
    element_bytes: int
    router_bytes: int
    balance_counts: int

    @property
    def whole_bytes(self) -> int:
        """W."""
        return self.tokens * self.shape.hidden * self.element_bytes

    @property
    def held_tokens(self) -> int:
        """Tokens whose hidden state the rank keeps between matrices."""
        return self.tokens // self.layout.tp if self.layout.sequence_parallel else self.tokens

    @property
    def held_bytes(self) -> int:
        """P with sequence parallelism, W without: what travels between pipeline ranks."""
        return self.held_tokens * self.shape.hidden * self.element_bytes


def layer(part: Microbatch, kind: LayerKind, *, is_recomputed: bool) -> Iterator[Collective]:
    """Yield what one layer does forward and backward; recomputed, its forward calls twice."""
    yield from _attention(part, forwards=1 + _again(part, "", is_recomputed=is_recomputed))
    if kind is LayerKind.DENSE:
        forwards = 1 + _again(part, "mlp", is_recomputed=is_recomputed)
        yield from _tensor_block(part, "mlp", forwards=forwards)
        return
    whole = _again(part, "moe", is_recomputed=is_recomputed)
    yield from _experts(part, forwards=1 + whole)
    if part.shape.shared_ffn:
        shared = whole or _again(part, "shared_experts", is_recomputed=is_recomputed)
        yield from _tensor_block(part, "shared experts", forwards=1 + shared)


def embedding(part: Microbatch) -> Iterator[Collective]:
    """Yield the look-up in a vocabulary cut by tp: a sum of W, and what its gradient needs."""
    if not part.layout.sequence_parallel:
        yield _one(part, Axis.TP, Kind.ALL_REDUCE, "embedding", part.whole_bytes)
        return
    # Learned positions are added to whole sequences, so the sum is not scattered but split after.
    kind = Kind.ALL_REDUCE if part.shape.positions else Kind.REDUCE_SCATTER
    yield _one(part, Axis.TP, kind, "embedding", part.whole_bytes)
    yield _one(part, Axis.TP, Kind.ALL_GATHER, "embedding", part.held_bytes)


def head(part: Microbatch) -> Iterator[Collective]:
    """Yield logits and loss: a column-parallel matrix, then three sums over the vocabulary.

    The sums (largest logit, logit of the label, sum of exponentials) are FP32 for each token.
    """
    if part.layout.sequence_parallel:
        yield _one(part, Axis.TP, Kind.ALL_GATHER, "logits", part.held_bytes, calls=2)
        yield _one(part, Axis.TP, Kind.REDUCE_SCATTER, "logits", part.whole_bytes)
    else:
        yield _one(part, Axis.TP, Kind.ALL_REDUCE, "logits", part.whole_bytes)
    yield _one(part, Axis.TP, Kind.ALL_REDUCE, "loss", part.tokens * _FP32_BYTES, calls=3)


def _again(part: Microbatch, module: str, *, is_recomputed: bool) -> int:
    recompute = part.layout.recompute
    if recompute.granularity is RecomputeGranularity.SELECTIVE:
        return int(module in recompute.modules)
    return int(is_recomputed)


def _attention(part: Microbatch, *, forwards: int) -> Iterator[Collective]:
    yield from _tensor_block(part, "attention", forwards=forwards)
    yield from _context(part, forwards=forwards)


def _tensor_block(part: Microbatch, purpose: str, *, forwards: int) -> Iterator[Collective]:
    """Yield a column-parallel matrix followed by a row-parallel one (Shoeybi et al. 2019).

    An all-reduce of W after it, forward, and before it, backward. With sequence parallelism
    (Korthikanti et al. 2022) gather before and scatter after in both directions; the input is
    gathered once more, backward, as only its part was kept.
    """
    if part.layout.sequence_parallel:
        gathers, scatters = forwards + 2, forwards + 1
        yield _one(part, Axis.TP, Kind.ALL_GATHER, purpose, part.held_bytes, calls=gathers)
        yield _one(part, Axis.TP, Kind.REDUCE_SCATTER, purpose, part.whole_bytes, calls=scatters)
    else:
        yield _one(part, Axis.TP, Kind.ALL_REDUCE, purpose, part.whole_bytes, calls=forwards + 1)


def _context(part: Microbatch, *, forwards: int) -> Iterator[Collective]:
    """Yield what attention exchanges over cp: Transformer Engine's, by `cp_comm_type`."""
    layout, shape = part.layout, part.shape
    if layout.cp == 1:
        return
    keys_values = part.tokens * key_value_width(shape, tp=layout.tp) * part.element_bytes
    if layout.cp_comm_type is CpCommType.ALL_GATHER:
        # Keys and values apart; gathered again backward, then their gradients are scattered.
        half, whole = keys_values // 2, keys_values // 2 * layout.cp
        yield _one(part, Axis.CP, Kind.ALL_GATHER, "attention", half, calls=2 * forwards + 2)
        yield _one(part, Axis.CP, Kind.REDUCE_SCATTER, "attention", whole, calls=2)
    elif layout.cp_comm_type is CpCommType.ALL_TO_ALL:
        query_dim, value_dim = attention_dims(shape)
        heads = shape.heads // layout.tp
        for width in (heads * query_dim, heads * value_dim):  # queries; outputs
            size = part.tokens * width * part.element_bytes
            yield _one(part, Axis.CP, Kind.ALL_TO_ALL, "attention", size, calls=forwards + 1)
        half = keys_values // 2
        calls = 2 * (forwards + 1)
        yield _one(part, Axis.CP, Kind.ALL_TO_ALL, "attention", half, calls=calls)
    else:
        yield from _ring(part, keys_values, forwards=forwards)


def _ring(part: Microbatch, block: int, *, forwards: int) -> Iterator[Collective]:
    """Yield the ring: keys and values go on c - 1 times; backward their gradients follow them.

    Backward the first message is keys and values, the last their gradients, those between both.
    """
    cp = part.layout.cp
    for kind, offset in ((Kind.SEND, 1), (Kind.RECEIVE, -1)):
        alone = forwards * (cp - 1) + 2
        for size, calls in ((block, alone), (2 * block, cp - 2)):
            message = _one(part, Axis.CP, kind, "attention", size, calls=calls)
            yield replace(message, offset=offset)


def _experts(part: Microbatch, *, forwards: int) -> Iterator[Collective]:
    """Yield routing, dispatch and combine (Megatron's all-to-all dispatcher), balanced routing.

    k rows of each held token go out and come back, forward and backward, their routing weights
    go out alone; with etp the rows that arrived are gathered there and summed after. Balanced, as
    many rows arrive as are sent.
    """
    shape, layout = part.shape, part.layout
    counts = shape.experts * _COUNT_BYTES
    purpose = "experts"
    yield _one(part, Axis.EXPERT_MODEL, Kind.ALL_GATHER, "token counts", counts, calls=forwards)
    if part.balance_counts:
        # Summed where gradients are kept: in the second forward pass, if there are two.
        balance = part.balance_counts * _COUNT_BYTES
        yield _one(part, Axis.TP_CP, Kind.ALL_REDUCE, "token counts", balance)
    rows = part.held_tokens * shape.topk
    row_bytes, weight_bytes = rows * shape.hidden * part.element_bytes, rows * part.router_bytes
    passes = forwards + 1
    yield _one(part, Axis.EP, Kind.ALL_TO_ALL, purpose, row_bytes, calls=2 * passes)
    yield _one(part, Axis.EP, Kind.ALL_TO_ALL, "routing weights", weight_bytes, calls=passes)
    # The sum over etp is made in the format of the routing weights, FP32 if theirs is.
    summed_bytes = rows * shape.hidden * part.router_bytes
    for name, size in ((purpose, row_bytes), ("routing weights", weight_bytes)):
        yield _one(part, Axis.ETP, Kind.ALL_GATHER, name, size, calls=forwards)
        yield _one(part, Axis.ETP, Kind.REDUCE_SCATTER, name, size * layout.etp)
    whole_bytes = summed_bytes * layout.etp
    yield _one(part, Axis.ETP, Kind.REDUCE_SCATTER, purpose, whole_bytes, calls=forwards)
    yield _one(part, Axis.ETP, Kind.ALL_GATHER, purpose, summed_bytes)


def _one(
    part: Microbatch,
    axis: Axis,
    kind: Kind,
    purpose: str,
    size: int,
    *,
    calls: int = 1,
) -> Collective:
    return Collective(
        axis=axis,
        kind=kind,
        purpose=purpose,
        group_size=group_size(axis, part.layout),
        calls=calls,
        payload_bytes=size,
    )
