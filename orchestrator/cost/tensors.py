"""The parameter tensors that a pipeline stage holds on one rank, one by one, in Megatron's order.

Their sum is what `share.held_parameters` counts. Which tensors there are matters beyond the sum:
buffers are padded by tensor, buckets are cut between tensors, and some gradients are summed over
tp before the optimizer reads them. Shapes as in `shape.py`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.cost.shape import LayerKind, Shape, attention_matrices, mlp_matrices
from orchestrator.records.layout import Layout
from orchestrator.schedules.stages import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterTensor:
    """One parameter on a rank.

    `is_expert`: sharded over the expert axes, its gradient reduced over expert dp. `is_partial`:
    whole on every tp rank while its gradient there is of some tokens or heads alone, so Megatron
    sums it over tp. `is_tied`: a copy of the embedding that another pipeline rank also holds.
    """

    elements: int
    is_expert: bool = False
    is_partial: bool = False
    is_tied: bool = False


def stage_tensors(
    shape: Shape, layout: Layout, stage: Stage, *, first_layer: int, vocab: int
) -> tuple[ParameterTensor, ...]:
    """Return the tensors of one virtual stage in the order in which Megatron registers them.

    `first_layer` is the stage's first decoder layer, 0-based; `vocab` is padded. Without
    multi-token prediction and latent attention, which are not told apart by tensor yet.
    """
    tensors: list[ParameterTensor] = []
    is_alone = stage.has_embedding and stage.has_loss
    is_tied = shape.tied and layout.pp > 1 and not is_alone
    embedding = vocab // layout.tp * shape.hidden
    if stage.has_embedding:
        tensors.append(ParameterTensor(elements=embedding, is_tied=is_tied))
        if shape.positions:
            tensors.append(ParameterTensor(elements=shape.positions * shape.hidden))
    for kind in shape.kinds[first_layer : first_layer + stage.decoder_layers]:
        tensors += _layer(shape, layout, kind)
    if stage.has_loss:
        tensors += _norm(shape, layout)
        if not (shape.tied and is_alone):
            tensors.append(ParameterTensor(elements=embedding, is_tied=is_tied))
    return tuple(tensors)


def _layer(shape: Shape, layout: Layout, kind: LayerKind) -> Iterator[ParameterTensor]:
    """Yield a layer: norm, attention (output, queries keys and values, their norms), norm, MLP."""
    norms_before_each = shape.layer_norms // 2
    for _ in range(norms_before_each):
        yield from _norm(shape, layout)
    yield from _attention(shape, layout)
    for _ in range(norms_before_each):
        yield from _norm(shape, layout)
    if kind is LayerKind.DENSE:
        yield from _mlp(shape, layout, width=shape.ffn)
        return
    in_sequence = layout.sequence_parallel
    yield ParameterTensor(elements=shape.hidden * shape.experts, is_partial=in_sequence)
    if shape.linear_bias:
        yield ParameterTensor(elements=shape.experts, is_partial=in_sequence)
    for _ in range(shape.experts // layout.ep):
        yield from _expert(shape, layout)
    if shape.shared_ffn:
        yield from _mlp(shape, layout, width=shape.shared_ffn)


def _attention(shape: Shape, layout: Layout) -> Iterator[ParameterTensor]:
    qkv, output = attention_matrices(shape, tp=layout.tp)
    if shape.sinks:
        yield ParameterTensor(elements=shape.sinks // layout.tp)
    yield ParameterTensor(elements=output.size)
    if shape.linear_bias:
        yield ParameterTensor(elements=shape.hidden, is_partial=layout.sequence_parallel)
    yield ParameterTensor(elements=qkv.size)
    if shape.qkv_bias:
        yield ParameterTensor(elements=qkv.columns)
    if shape.qk_norm:
        # Each tp rank norms its own heads with the same gains: partial without sequence
        # parallelism too.
        for _ in range(2 * shape.norm_vectors):
            yield ParameterTensor(elements=shape.head_dim, is_partial=True)


def _mlp(shape: Shape, layout: Layout, *, width: int) -> Iterator[ParameterTensor]:
    up, down = mlp_matrices(shape, width=width, tp=layout.tp)
    yield ParameterTensor(elements=up.size)
    if shape.linear_bias:
        yield ParameterTensor(elements=up.columns)
    yield ParameterTensor(elements=down.size)
    if shape.linear_bias:
        yield ParameterTensor(elements=shape.hidden, is_partial=layout.sequence_parallel)


def _expert(shape: Shape, layout: Layout) -> Iterator[ParameterTensor]:
    # With ep 1 Megatron reduces experts together with the dense parameters.
    is_apart = layout.ep > 1
    up, down = mlp_matrices(shape, width=shape.expert_ffn, tp=layout.etp)
    yield ParameterTensor(elements=up.size, is_expert=is_apart)
    if shape.linear_bias:
        yield ParameterTensor(elements=up.columns, is_expert=is_apart)
    yield ParameterTensor(elements=down.size, is_expert=is_apart)
    if shape.linear_bias:
        yield ParameterTensor(elements=shape.hidden, is_expert=is_apart)


def _norm(shape: Shape, layout: Layout) -> Iterator[ParameterTensor]:
    for _ in range(shape.norm_vectors):
        yield ParameterTensor(elements=shape.hidden, is_partial=layout.sequence_parallel)
