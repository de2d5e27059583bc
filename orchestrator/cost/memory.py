"""Peak bytes on the fullest rank, by cause.

A pipeline rank holds its states, the activations of the chunks in flight, the working set of
what it recomputes or gathers, and on the last rank the logits. Every pipeline rank is examined:
the first keeps most microbatches, the last computes the logits, either may hold more layers.
"""

from dataclasses import replace
from functools import lru_cache
from typing import assert_never

from orchestrator.cost.activations import kept_bytes, layer_activations
from orchestrator.cost.parameters import Held, layer_parameters
from orchestrator.cost.shape import LayerKind
from orchestrator.cost.share import Share, held_parameters, shares_of
from orchestrator.cost.slice import Slice, slice_of
from orchestrator.cost.states import States, sharded_states
from orchestrator.cost.workload import Workload
from orchestrator.records.layout import Layout, Recompute
from orchestrator.records.plan import MemoryParts
from orchestrator.schedules.closed_forms import peak_in_flight
from orchestrator.specs.choices import Offload, Precision, RecomputeGranularity

LOGIT_BYTES = 8.0
"""Bytes for each logit at the peak of the loss: BF16 logits 2, FP32 softmax 4, BF16 gradient 2."""

FLASH_LOGIT_BYTES = 4.0
"""The same where the loss is Flash Attention's kernel: BF16 logits, and gradients in BF16."""

FLASH_LOSS_FAMILIES = ("llm-foundry", "internevo")

WIDE_LOGIT_BYTES = 12.0
"""The same in FP32: logits, softmax, gradient."""

GATHERED_LAYERS = 2
"""Layers whose parameters are whole at once under stage 3: in use, and fetched ahead."""

GATHERED_BYTES = 2.0
"""Bytes of a gathered parameter (BF16)."""


def memory_of(workload: Workload, layout: Layout) -> MemoryParts:
    """Return the bytes on the fullest rank of a layout."""
    part = slice_of(workload, layout)
    seen: set[Share] = set()
    parts: list[MemoryParts] = []
    for rank, share in enumerate(shares_of(workload.shape, layout)):
        # Of equal ranks the first keeps most microbatches.
        if share not in seen:
            seen.add(share)
            parts.append(_rank_memory(workload, layout, part, share=share, rank=rank))
    return max(parts, key=lambda one: one.total_bytes)


def stage_activation_bytes(workload: Workload, layout: Layout) -> tuple[float, ...]:
    """Return the bytes that each virtual stage keeps of one microbatch until its backward."""
    part = slice_of(workload, layout)
    apart = replace(layout, pp=layout.num_stages, vpp=1)
    return tuple(
        _kept_by_microbatch(workload, part, share=share, recompute=layout.recompute)
        for share in shares_of(workload.shape, apart)
    )


def stage_state_bytes(workload: Workload, layout: Layout) -> tuple[float, ...]:
    """Return the bytes of parameters, gradients and optimizer that each virtual stage holds."""
    apart = replace(layout, pp=layout.num_stages, vpp=1)
    return tuple(
        _states(workload, layout, held_parameters(workload, layout, share)).total_bytes
        for share in shares_of(workload.shape, apart)
    )


def overhead_bytes(workload: Workload, layout: Layout) -> float:
    """Return what a rank may need beside states and activations in flight: an upper bound."""
    part = slice_of(workload, layout)
    working = max(
        _working_bytes(workload, layout, part, share=share)
        for share in shares_of(workload.shape, layout)
    )
    return working + _logits_bytes(workload, part) + workload.reserve_bytes


def states_floor_bytes(workload: Workload, layout: Layout) -> float:
    """Return a lower bound of a layout's peak: states of the rank with most parameters.

    Cheap, so that a search can drop a layout before it counts activations.
    """
    return max(
        _states(workload, layout, held_parameters(workload, layout, share)).total_bytes
        for share in set(shares_of(workload.shape, layout))
    )


def _rank_memory(
    workload: Workload, layout: Layout, part: Slice, *, share: Share, rank: int
) -> MemoryParts:
    states = _states(workload, layout, held_parameters(workload, layout, share))
    in_flight = peak_in_flight(
        layout.schedule,
        pp=layout.pp,
        vpp=layout.vpp,
        num_microbatches=layout.num_microbatches(workload.global_batch_size),
        microbatch_group_size=layout.microbatch_group_size,
        rank=rank,
    )
    kept = _kept_by_microbatch(workload, part, share=share, recompute=layout.recompute)
    working = _working_bytes(workload, layout, part, share=share)
    return MemoryParts(
        parameters_bytes=states.parameters_bytes,
        gradients_bytes=states.gradients_bytes,
        optimizer_bytes=states.optimizer_bytes,
        activations_bytes=in_flight / layout.vpp * kept * (1 - workload.offloaded_share) + working,
        logits_bytes=_logits_bytes(workload, part) if share.head else 0.0,
        reserve_bytes=workload.reserve_bytes,
    )


def _states(workload: Workload, layout: Layout, held: Held) -> States:
    per = workload.states
    stage = layout.zero_stage
    dense = sharded_states(held.dense, per, zero_stage=stage, domain=layout.zero_domain)
    domain = max(1, layout.expert_dp // layout.zero_replicas)
    expert = sharded_states(held.expert, per, zero_stage=stage, domain=domain)
    whole = States(
        parameters_bytes=dense.parameters_bytes + expert.parameters_bytes,
        gradients_bytes=dense.gradients_bytes + expert.gradients_bytes,
        optimizer_bytes=dense.optimizer_bytes + expert.optimizer_bytes,
    )
    return _left_on_device(whole, layout.offload)


def _left_on_device(states: States, offload: Offload) -> States:
    """Return the states without what host memory keeps; what is in use is a working set."""
    match offload:
        case Offload.NONE:
            return states
        case Offload.OPTIMIZER:
            return replace(states, optimizer_bytes=0.0)
        case Offload.PARAMETERS:
            return replace(states, optimizer_bytes=0.0, parameters_bytes=0.0)
        case _:
            assert_never(offload)


@lru_cache(maxsize=65536)
def _kept_by_microbatch(
    workload: Workload, part: Slice, *, share: Share, recompute: Recompute
) -> float:
    """Return what a rank keeps of one microbatch in all its chunks."""
    total = 0.0
    again = share.recomputed_layers(recompute)
    for kind, count in share.kinds:
        layer = layer_activations(workload, part, kind=kind)
        lesser = again * count / share.layers
        total += lesser * kept_bytes(layer, recompute) + (count - lesser) * layer.total_bytes
    return total


def _working_bytes(workload: Workload, layout: Layout, part: Slice, *, share: Share) -> float:
    """Return what one layer needs for a moment: recomputed activations, gathered parameters."""
    kinds = [kind for kind, _ in share.kinds]
    total = 0.0
    if layout.recompute.granularity is not RecomputeGranularity.NONE and kinds:
        layers = [layer_activations(workload, part, kind=kind) for kind in kinds]
        total += max(one.total_bytes - kept_bytes(one, layout.recompute) for one in layers)
    if layout.zero_stage == 3 and kinds:  # noqa: PLR2004
        total += (
            GATHERED_LAYERS
            * GATHERED_BYTES
            * max(_layer_held(workload, layout, kind=kind).total for kind in kinds)
        )
    return total


def _layer_held(workload: Workload, layout: Layout, *, kind: LayerKind) -> Held:
    return layer_parameters(workload.shape, kind=kind, tp=layout.tp, etp=layout.etp, ep=layout.ep)


def _logits_bytes(workload: Workload, part: Slice) -> float:
    """Return the loss's workspace for one microbatch: [T, v / t], and again for each MTP depth."""
    each = WIDE_LOGIT_BYTES if workload.precision is Precision.FP32 else LOGIT_BYTES
    if workload.software.family in FLASH_LOSS_FAMILIES:
        each = FLASH_LOGIT_BYTES
    columns = workload.padded_vocab(part.tp) // part.tp
    return each * part.tokens * columns
