"""The collectives of gradients and parameters between replicas, once a step on one rank.

Megatron keeps the gradients of a model chunk in one buffer for dense and one for expert
parameters; a buffer is reduced bucket by bucket. Source: megatron-core 0.16.1,
`distributed/param_and_grad_buffer.py`.
"""

import math
from collections.abc import Iterator, Sequence

from orchestrator.cost.collective import Axis, Collective, Kind, group_size
from orchestrator.cost.tensors import ParameterTensor
from orchestrator.records.layout import Layout
from orchestrator.specs.choices import OverlapAxis

GRADIENT_BYTES = 4
"""Gradients are accumulated and reduced in FP32."""

_TENSOR_ALIGNMENT = 64  # elements; a tensor begins at a multiple, with the distributed optimizer
_BUCKET_ALIGNMENT = 128  # elements, and every rank's shard of a bucket is as large as the others'
_LEAST_BUCKET = 40_000_000
_BUCKET_BY_RANK = 1_000_000


def replicas(
    layout: Layout,
    chunks: Sequence[tuple[ParameterTensor, ...]],
    *,
    pp_rank: int,
    parameter_bytes: int,
    gathers: int,
) -> Iterator[Collective]:
    """Yield what the chunks of a pipeline rank exchange; `chunks` holds their tensors, in order.

    Stage 0 all-reduces gradients. Stage 1 scatters gradients and gathers parameters after the
    step (before the next forward pass, where that overlaps), `gathers` times.
    """
    for number, tensors in enumerate(chunks):
        limit = _limit(layout, pp_rank=pp_rank, number=number)
        for is_expert in (False, True):
            mine = [one for one in tensors if one.is_expert is is_expert]
            axis = Axis.EXPERT_DP if is_expert else Axis.DP
            for elements in _buckets(layout, mine, limit=limit, axis=axis):
                for one in _bucket(layout, elements, axis=axis, parameter_bytes=parameter_bytes):
                    yield one.times(gathers) if one.kind is Kind.ALL_GATHER else one


def _bucket(
    layout: Layout, elements: int, *, axis: Axis, parameter_bytes: int
) -> Iterator[Collective]:
    gradients = elements * GRADIENT_BYTES
    if layout.zero_stage == 0:
        yield _one(layout, axis, Kind.ALL_REDUCE, "gradients", gradients)
        return
    shard = elements // group_size(axis, layout)
    yield _one(layout, axis, Kind.REDUCE_SCATTER, "gradients", gradients)
    yield _one(layout, axis, Kind.ALL_GATHER, "parameters", shard * parameter_bytes)


def _buckets(
    layout: Layout, tensors: Sequence[ParameterTensor], *, limit: int | None, axis: Axis
) -> Iterator[int]:
    """Yield the elements of each bucket, last tensor first as gradients arrive.

    A bucket ends once it holds `limit` elements. A tied embedding is a bucket of its own under
    the distributed optimizer, so that both its copies are sharded alike.
    """
    elements = 0
    for tensor in reversed(tensors):
        stands_alone = tensor.is_tied and layout.zero_stage == 1
        if stands_alone and elements:
            yield _padded(layout, elements, axis=axis)
            elements = 0
        elements = _aligned(layout, elements) + tensor.elements
        if stands_alone or (limit is not None and elements >= limit):
            yield _padded(layout, elements, axis=axis)
            elements = 0
    if elements:
        yield _padded(layout, elements, axis=axis)


def _limit(layout: Layout, *, pp_rank: int, number: int) -> int | None:
    """Return how large a bucket may grow; None is all of a chunk.

    Overlapped, Megatron cuts the first chunk of the first pipeline rank alone: the others'
    exchange is not on the critical path.
    """
    if OverlapAxis.DP not in layout.overlap or pp_rank or number:
        return None
    return max(_LEAST_BUCKET, _BUCKET_BY_RANK * layout.dp)


def _aligned(layout: Layout, elements: int) -> int:
    return _multiple(elements, _TENSOR_ALIGNMENT) if layout.zero_stage == 1 else elements


def _padded(layout: Layout, elements: int, *, axis: Axis) -> int:
    if layout.zero_stage == 0:
        return elements
    return _multiple(elements, math.lcm(group_size(axis, layout), _BUCKET_ALIGNMENT))


def _multiple(number: int, of: int) -> int:
    return -(-number // of) * of


def _one(layout: Layout, axis: Axis, kind: Kind, purpose: str, size: int) -> Collective:
    return Collective(
        axis=axis,
        kind=kind,
        purpose=purpose,
        group_size=group_size(axis, layout),
        calls=1,
        payload_bytes=size,
    )
