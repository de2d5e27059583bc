"""The collectives with which a step ends on one rank: sums that finish gradients, and the norm."""

from collections.abc import Iterator, Sequence

from orchestrator.cost.collective import Axis, Collective, Kind, group_size
from orchestrator.cost.tensors import ParameterTensor
from orchestrator.cost.traffic_replicas import GRADIENT_BYTES
from orchestrator.records.layout import Layout
from orchestrator.specs.layers import MoeSpec

_NORM_BYTES = 4  # one FP32 number


def partial_gradients(
    layout: Layout, chunks: Sequence[tuple[ParameterTensor, ...]]
) -> Iterator[Collective]:
    """Yield the sums that finish gradients: of norms over tp, of the tied embedding over its two.

    Megatron joins the former of all chunks into one call.
    """
    tensors = [tensor for chunk in chunks for tensor in chunk]
    partial = sum(tensor.elements for tensor in tensors if tensor.is_partial)
    sums = [(Axis.TP, "partial gradients", partial)]
    sums += [(Axis.EMBEDDING, "tied gradients", one.elements) for one in tensors if one.is_tied]
    for axis, purpose, elements in sums:
        yield _all_reduce(layout, axis, purpose, elements * GRADIENT_BYTES)


def gradient_norm(layout: Layout, *, has_experts: bool) -> Iterator[Collective]:
    """Yield what the optimizer asks of others: the norm of all gradients.

    Without sharded states experts are optimized apart, with a norm of their own group.
    """
    if layout.zero_stage == 1:
        yield _all_reduce(layout, Axis.WORLD, "gradient norm", _NORM_BYTES)
    else:
        yield _all_reduce(layout, Axis.MODEL, "gradient norm", _NORM_BYTES)
        if has_experts:
            yield _all_reduce(layout, Axis.EXPERT_MODEL_PP, "gradient norm", _NORM_BYTES)


def routing_bias(
    layout: Layout, moe: MoeSpec | None, *, moe_layers: int, element_bytes: int
) -> Iterator[Collective]:
    """Yield the sum of token counts by which a routing bias is corrected.

    The counts are a buffer of the model, which Megatron turns into BF16 with the rest of it.
    """
    if moe is not None and moe.expert_bias and moe_layers:
        size = moe_layers * moe.num_experts * element_bytes
        yield _all_reduce(layout, Axis.TP_DP, "token counts", size)


def _all_reduce(layout: Layout, axis: Axis, purpose: str, size: int) -> Collective:
    return Collective(
        axis=axis,
        kind=Kind.ALL_REDUCE,
        purpose=purpose,
        group_size=group_size(axis, layout),
        calls=1 if size else 0,
        payload_bytes=size,
    )
