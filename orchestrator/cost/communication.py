"""Bytes that ranks exchange and the seconds of it that computation does not hide.

Shapes as in `shape.py`; T, held tokens as in `slice.py`. Ranks are numbered innermost first:
tp, cp, dp, pp (experts: etp, ep, expert dp, pp), so a group is a size and a stride. Bandwidth is
one direction of one accelerator's links.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

from orchestrator.cost.parameters import Held
from orchestrator.cost.shape import LayerKind, key_value_width
from orchestrator.cost.slice import Slice, expert_tokens
from orchestrator.cost.workload import Fabric, Workload
from orchestrator.records.layout import Layout
from orchestrator.specs.choices import OverlapAxis, ScheduleKind

TP_EXPOSED = 0.29
"""Share of tensor-parallel collectives not hidden when they overlap with products (fit)."""

CP_EXPOSED = 0.29
"""Share of the ring's key and value exchange not hidden (fit)."""

EP_EXPOSED = 0.86
"""Share of expert all-to-all not hidden, without Megatron's expert overlap (fit)."""

PP_EXPOSED = 0.47
"""Share of pipeline sends not hidden with overlap (fit)."""

DP_EXPOSED = 0.25
"""Share of gradient and parameter exchange not hidden with overlap (fit)."""

DP_UNOVERLAPPED = 0.76
"""The same without overlap: below 1 because the fit sees bandwidth above ours (fit)."""

FSDP_EXPOSED = 0.48
"""Share of the gathers of sharded parameters not hidden (fit on llm-foundry rows)."""

TP_COLLECTIVES_PER_BLOCK = 2
"""Forward: gather before and scatter after attention, the same around the MLP (Megatron)."""

GRADIENT_BYTES = 4.0
"""FP32, as Megatron accumulates and reduces gradients by default."""

EXPERT_EXCHANGES = 2
"""Forward: dispatch and combine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ring:
    """A group of ranks: how many, and how far apart its neighbours are."""

    size: int
    stride: int


def bandwidth(fabric: Fabric, ring: Ring) -> float:
    """Return the bytes a second that one member of a group sends to the next.

    The fast links where the group stays inside a domain. Else the network times the members
    in a domain, as each brings its own adapter and a ring leaves the domain once (NCCL), at most
    the fast links. Ignored: oversubscription, congestion.
    """
    if ring.size * ring.stride <= fabric.domain:
        return fabric.scale_up_bytes_per_s
    members = max(1, min(ring.size, fabric.domain // ring.stride))
    return min(fabric.scale_up_bytes_per_s, fabric.network_bytes_per_s * members)


def hop_bandwidth(fabric: Fabric, ring: Ring) -> float:
    """Return the bytes a second between neighbours that send point to point.

    One adapter carries the slowest hop of a group that leaves its domain.
    """
    inside = ring.size * ring.stride <= fabric.domain
    return fabric.scale_up_bytes_per_s if inside else fabric.network_bytes_per_s


def ring_s(workload: Workload, ring: Ring, whole_bytes: float) -> float:
    """Return the seconds of an all-gather or reduce-scatter whose whole is `whole_bytes`.

    (n - 1) / n x bytes / bandwidth + latency. Source: Thakur et al. 2005; NCCL's ring.
    """
    if ring.size == 1 or whole_bytes == 0:
        return 0.0
    fabric, chip = workload.fabric, workload.chip.efficiency
    share = (ring.size - 1) / ring.size
    latency = chip.collective_latency_s
    if ring.size * ring.stride > fabric.domain:
        latency += fabric.network_latency_s * math.log2(ring.size)
    return share * whole_bytes / (bandwidth(fabric, ring) * chip.link_share) + latency


@lru_cache(maxsize=65536)
def tp_forward_s(workload: Workload, part: Slice, *, kind: LayerKind) -> float:
    """Return the seconds of tensor-parallel collectives in a layer's forward pass, all of them.

    Two of [T, h] in each of attention and MLP: gather and scatter with sequence parallelism,
    the two halves of an all-reduce without. An expert layer has attention's, those of its
    shared experts, and gather and scatter over etp. Source: Korthikanti et al. 2022, section 4.2.
    Ignored: embedding and loss (below 1 %).
    """
    shape = workload.shape
    moe = kind is LayerKind.MOE
    blocks = 1 + (0 if moe and shape.shared_ffn == 0 else 1)
    tp_ring = Ring(size=part.tp, stride=1)
    hidden_bytes = workload.element_bytes * part.tokens * shape.hidden
    total = blocks * TP_COLLECTIVES_PER_BLOCK * ring_s(workload, tp_ring, hidden_bytes)
    if moe and part.etp > 1:
        routed = workload.element_bytes * expert_tokens(shape, part) * shape.hidden
        total += 2 * ring_s(workload, Ring(size=part.etp, stride=1), routed)
    return total


@lru_cache(maxsize=65536)
def cp_forward_s(workload: Workload, part: Slice) -> float:
    """Return the seconds of a layer's key and value exchange around the ring, forward.

    (c - 1) blocks of [b, s / c, 2 g d / t]. Source: Liu et al. 2023 (ring
    attention). Backward moves them and their gradients: twice.
    """
    if part.cp == 1:
        return 0.0
    ring = Ring(size=part.cp, stride=part.tp)
    block = workload.element_bytes * part.tokens * key_value_width(workload.shape, tp=part.tp)
    efficiency = workload.chip.efficiency
    rate = hop_bandwidth(workload.fabric, ring) * efficiency.link_share
    return (part.cp - 1) * (block / rate + efficiency.collective_latency_s)


@lru_cache(maxsize=65536)
def ep_forward_s(workload: Workload, part: Slice) -> float:
    """Return the seconds of a layer's dispatch and combine, forward.

    A rank sends k copies of each held token; (ep - 1) / ep of them leave it, the part for
    other domains over its own adapter, at the same time as the rest over the fast links.
    Ignored: unbalanced experts, limits on the hosts of a token.
    """
    if part.ep == 1:
        return 0.0
    fabric, chip = workload.fabric, workload.chip.efficiency
    sent = workload.element_bytes * part.held_tokens * workload.shape.topk * workload.shape.hidden
    near = min(part.ep, max(1, fabric.domain // part.etp))
    far_s = sent * (part.ep - near) / part.ep / fabric.network_bytes_per_s
    near_s = sent * (near - 1) / part.ep / fabric.scale_up_bytes_per_s
    latency = chip.collective_latency_s
    return EXPERT_EXCHANGES * (max(far_s, near_s) / chip.all_to_all_share + latency)


def tp_exposed(layout: Layout) -> float:
    """Return the share of tensor-parallel collectives that is not hidden.

    Overlap needs sequence parallelism (Megatron `--tp-comm-overlap`).
    """
    return TP_EXPOSED if OverlapAxis.TP in layout.overlap and layout.sequence_parallel else 1.0


def pp_microbatch_s(workload: Workload, layout: Layout, part: Slice) -> float:
    """Return the exposed seconds a microbatch spends between pipeline ranks, seen from one.

    Each chunk passes [held tokens, h] on, forward and backward: 2 v sends.
    """
    if layout.pp == 1:
        return 0.0
    ring = Ring(size=layout.pp, stride=layout.world_size // layout.pp)
    sent = workload.element_bytes * part.held_tokens * workload.shape.hidden
    hop = sent / (hop_bandwidth(workload.fabric, ring) * workload.chip.efficiency.link_share)
    hop += workload.fabric.network_latency_s
    hidden = OverlapAxis.PP in layout.overlap and layout.schedule is ScheduleKind.INTERLEAVED
    return 2 * layout.vpp * hop * (PP_EXPOSED if hidden else 1.0)


def dp_step_s(workload: Workload, layout: Layout, held: Held) -> float:
    """Return the exposed seconds of gradients and parameters between replicas, for a step.

    Dense parameters travel in groups of dp x cp, experts in groups of expert_dp. Stage 0
    all-reduces gradients; stage 1 scatters gradients and gathers parameters; stages 2 and 3
    scatter in every microbatch, and 3 gathers parameters there twice (Megatron-FSDP).
    """
    dense = Ring(size=layout.dp * layout.cp, stride=layout.tp)
    expert = Ring(size=layout.expert_dp, stride=layout.etp * layout.ep)
    gradients, gathers = _dp_passes(workload, layout)
    seconds = 0.0
    for ring, count in ((dense, held.dense), (expert, held.expert)):
        seconds += gradients * ring_s(workload, ring, GRADIENT_BYTES * count)
        seconds += gathers * ring_s(workload, ring, workload.element_bytes * count)
    return seconds * _dp_exposed(layout)


def _dp_passes(workload: Workload, layout: Layout) -> tuple[float, float]:
    """Return how often gradients and parameters cross the group in a step, in ring passes."""
    microbatches = layout.num_microbatches(workload.global_batch_size)
    table: dict[int, tuple[float, float]] = {
        0: (2, 0),
        1: (1, 1),
        2: (microbatches, 1),
        3: (microbatches, 2 * microbatches),
    }
    return table[layout.zero_stage]


def _dp_exposed(layout: Layout) -> float:
    if OverlapAxis.DP not in layout.overlap:
        return DP_UNOVERLAPPED
    return DP_EXPOSED if layout.zero_stage <= 1 else FSDP_EXPOSED
