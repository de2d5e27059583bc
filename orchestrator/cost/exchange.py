"""The bill of what ranks exchange: bytes over near and far links, and calls.

Shapes as in `shape.py`; T, held tokens as in `slice.py`. Ranks are numbered innermost first:
tp, cp, dp, pp (experts: etp, ep, expert dp, pp), so a group is a size and a stride. *Near* is
the fast links of a scale-up domain, *far* the network.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

from orchestrator.cost.layer_bill import Bill, bill
from orchestrator.cost.parameters import Held
from orchestrator.cost.quantity import Quantity
from orchestrator.cost.shape import LayerKind, key_value_width
from orchestrator.cost.slice import Slice, expert_tokens
from orchestrator.cost.workload import Fabric, Workload
from orchestrator.records.layout import Layout, Recompute
from orchestrator.specs.choices import OverlapAxis, ScheduleKind

TP_COLLECTIVES_PER_BLOCK = 2
"""Forward: gather before and scatter after attention, the same around the MLP (Megatron)."""

EXPERT_EXCHANGES = 2
"""Forward: dispatch and combine."""

ADAM_BYTES = 34.0
"""Bytes moved for a parameter by AdamW: gradient, master and moments in, the last three and the
working copy out, and once more the gradient for its norm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ring:
    """A group of ranks: how many, and how far apart its neighbours are."""

    size: int
    stride: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """Bytes that one rank sends over near and over far links, and in how many calls."""

    near: float = 0.0
    far: float = 0.0
    calls: float = 0.0


def is_near(fabric: Fabric, ring: Ring) -> bool:
    """Return whether a group stays inside a scale-up domain."""
    return ring.size * ring.stride <= fabric.domain


def adapters(fabric: Fabric, ring: Ring) -> int:
    """Return the members of a group in one domain: each brings its own network adapter."""
    return max(1, min(ring.size, fabric.domain // ring.stride))


def gathered(fabric: Fabric, ring: Ring, whole_bytes: float) -> Carried:
    """Return an all-gather or reduce-scatter whose whole is `whole_bytes`.

    (n - 1) / n x bytes. Source: Thakur et al. 2005; NCCL's ring. A ring leaves the domain once,
    over the adapters of all its members there (NCCL), as long as the fast links keep up.
    Ignored: oversubscription, congestion.
    """
    if ring.size == 1 or whole_bytes == 0:
        return Carried()
    moved = (ring.size - 1) / ring.size * whole_bytes
    if is_near(fabric, ring):
        return Carried(near=moved, calls=1)
    members = adapters(fabric, ring)
    if fabric.network_bytes_per_s * members >= fabric.scale_up_bytes_per_s:
        return Carried(near=moved, calls=1)
    return Carried(far=moved / members, calls=1)


def passed(fabric: Fabric, ring: Ring, sent_bytes: float) -> Carried:
    """Return a send to a neighbour: one adapter carries the slowest hop."""
    if ring.size == 1:
        return Carried()
    if is_near(fabric, ring):
        return Carried(near=sent_bytes, calls=1)
    return Carried(far=sent_bytes, calls=1)


@lru_cache(maxsize=65536)
def tp_bill(workload: Workload, part: Slice, *, kind: LayerKind, hidden: bool) -> Bill:
    """Return a layer's tensor-parallel collectives, forward.

    Two of [T, h] in each of attention and MLP: gather and scatter with sequence parallelism,
    the two halves of an all-reduce without. An expert layer has attention's, those of its
    shared experts, and gather and scatter over etp. Source: Korthikanti et al. 2022, section 4.2.
    Ignored: embedding and loss (below 1 %).
    """
    shape, fabric = workload.shape, workload.fabric
    moe = kind is LayerKind.MOE
    blocks = 1 + (0 if moe and shape.shared_ffn == 0 else 1)
    hidden_bytes = workload.element_bytes * part.tokens * shape.hidden
    whole = gathered(fabric, Ring(size=part.tp, stride=1), hidden_bytes)
    entries = _entries(whole, times=blocks * TP_COLLECTIVES_PER_BLOCK, hidden=hidden)
    if moe and part.etp > 1:
        routed = workload.element_bytes * expert_tokens(shape, part) * shape.hidden
        more = gathered(fabric, Ring(size=part.etp, stride=1), routed)
        entries = entries + _entries(more, times=2, hidden=hidden)
    return entries


def _entries(carried: Carried, *, times: float, hidden: bool) -> Bill:
    near, far, calls = (
        (Quantity.HIDDEN_TP_NEAR_BYTES, Quantity.HIDDEN_TP_FAR_BYTES, Quantity.HIDDEN_TP_CALLS)
        if hidden
        else (Quantity.TP_NEAR_BYTES, Quantity.TP_FAR_BYTES, Quantity.TP_CALLS)
    )
    return bill(
        {near: times * carried.near, far: times * carried.far, calls: times * carried.calls}
    )


@lru_cache(maxsize=65536)
def cp_bill(workload: Workload, part: Slice) -> Bill:
    """Return a layer's key and value exchange around the ring, forward.

    (c - 1) blocks of [b, s / c, 2 g d / t]. Source: Liu et al. 2023 (ring attention). Backward
    moves them and their gradients: twice.
    """
    block = workload.element_bytes * part.tokens * key_value_width(workload.shape, tp=part.tp)
    one = passed(workload.fabric, Ring(size=part.cp, stride=part.tp), block)
    times = part.cp - 1
    return bill(
        {
            Quantity.CP_NEAR_BYTES: times * one.near,
            Quantity.CP_FAR_BYTES: times * one.far,
            Quantity.CP_CALLS: times * one.calls,
        }
    )


@lru_cache(maxsize=65536)
def ep_bill(workload: Workload, part: Slice) -> Bill:
    """Return a layer's dispatch and combine, forward.

    A rank sends k copies of each held token; (ep - 1) / ep of them leave it, the part for other
    domains over its own adapter, at the same time as the rest over the fast links: the slower
    of the two is billed. Kernels that send a token once to a domain pass it on there. Ignored:
    unbalanced experts, limits on the domains of a token.
    """
    if part.ep == 1:
        return bill()
    fabric, topk = workload.fabric, workload.shape.topk
    token = workload.element_bytes * part.held_tokens * workload.shape.hidden
    in_domain = min(part.ep, max(1, fabric.domain // part.etp))
    copies = far_copies(topk, domains=part.ep / in_domain, once=workload.software.sends_once)
    limit = workload.shape.group_limit
    far = token * (min(copies, limit) if limit and workload.software.sends_once else copies)
    near = token * topk * (in_domain - 1) / in_domain
    if not workload.software.sends_once:
        near *= in_domain / part.ep
    far_is_slower = far / fabric.network_bytes_per_s > near / fabric.scale_up_bytes_per_s
    return bill(
        {
            Quantity.EP_FAR_BYTES: EXPERT_EXCHANGES * far if far_is_slower else 0.0,
            Quantity.EP_NEAR_BYTES: 0.0 if far_is_slower else EXPERT_EXCHANGES * near,
            Quantity.EP_CALLS: EXPERT_EXCHANGES,
        }
    )


def far_copies(topk: int, *, domains: float, once: bool) -> float:
    """Return the copies of a token that leave its domain.

    k (D - 1) / D, one for each expert elsewhere; or one for each other domain that holds any of
    its k experts, evenly drawn: (D - 1) (1 - (1 - 1 / D)^k).
    """
    if once:
        return (domains - 1) * (1 - (1 - 1 / domains) ** topk)
    return topk * (domains - 1) / domains


def hides_tp(layout: Layout) -> bool:
    """Return whether tensor-parallel collectives overlap with products.

    Overlap needs sequence parallelism (Megatron `--tp-comm-overlap`).
    """
    return OverlapAxis.TP in layout.overlap and layout.sequence_parallel


def pp_bill(workload: Workload, layout: Layout, part: Slice) -> Bill:
    """Return what a microbatch passes between pipeline ranks, seen from one.

    Each chunk passes [held tokens, h] on, forward and backward: 2 v sends.
    """
    if layout.pp == 1:
        return bill()
    return _pp_bill(
        workload,
        part,
        pp=layout.pp,
        stride=layout.world_size // layout.pp,
        vpp=layout.vpp,
        hidden=OverlapAxis.PP in layout.overlap and layout.schedule is ScheduleKind.INTERLEAVED,
    )


@lru_cache(maxsize=65536)
def _pp_bill(
    workload: Workload, part: Slice, *, pp: int, stride: int, vpp: int, hidden: bool
) -> Bill:
    sent = workload.element_bytes * part.held_tokens * workload.shape.hidden
    one = passed(workload.fabric, Ring(size=pp, stride=stride), sent)
    near, far = (
        (Quantity.HIDDEN_PP_NEAR_BYTES, Quantity.HIDDEN_PP_FAR_BYTES)
        if hidden
        else (Quantity.PP_NEAR_BYTES, Quantity.PP_FAR_BYTES)
    )
    return bill({near: 2 * vpp * one.near, far: 2 * vpp * one.far, Quantity.PP_CALLS: 2 * vpp})


def replica_bill(workload: Workload, layout: Layout, held: Held) -> Bill:
    """Return what replicas exchange in a step, and what the optimizer moves.

    Dense parameters travel in groups of dp x cp, experts in groups of expert_dp. Stage 0
    all-reduces gradients; stage 1 scatters gradients and gathers parameters once a step; stages
    2 and 3 scatter in every microbatch, and 3 gathers parameters there twice (FSDP). With
    replicas of the shards (HSDP), gradients are all-reduced between them once a step.
    """
    # Micro batch, recomputation and schedule change nothing here: layouts share the answer.
    stripped = replace(
        layout,
        micro_batch_size=1,
        recompute=Recompute(),
        overlap=(),
        stage_layout=None,
        vpp=1,
        microbatch_group_size=1,
    )
    return _replica_bill(workload, stripped, held)


@lru_cache(maxsize=65536)
def _replica_bill(workload: Workload, layout: Layout, held: Held) -> Bill:
    replicas = layout.zero_replicas if layout.zero_stage else 1
    dense_size = layout.dp * layout.cp // replicas
    expert_size = max(1, layout.expert_dp // replicas)
    parts = (
        (held.dense, Ring(size=dense_size, stride=layout.tp)),
        (held.expert, Ring(size=expert_size, stride=layout.etp * layout.ep)),
    )
    total = bill()
    for count, ring in parts:
        if count:
            total = total + _sharded(workload, layout, count=count, ring=ring, replicas=replicas)
    return total


def _sharded(
    workload: Workload, layout: Layout, *, count: float, ring: Ring, replicas: int
) -> Bill:
    fabric, stage = workload.fabric, layout.zero_stage
    gradient = gathered(fabric, ring, workload.gradient_bytes * count)
    parameter = gathered(fabric, ring, workload.gathered_bytes * count)
    entries = {Quantity.OPTIMIZER_BYTES: ADAM_BYTES * count / (ring.size if stage else 1)}
    reductions, gathers = (2, 0) if stage == 0 else (1, 1)
    if stage <= 1:
        entries |= {
            Quantity.GRADIENT_NEAR_BYTES: reductions * gradient.near,
            Quantity.GRADIENT_FAR_BYTES: reductions * gradient.far,
            Quantity.PARAMETER_NEAR_BYTES: gathers * parameter.near,
            Quantity.PARAMETER_FAR_BYTES: gathers * parameter.far,
        }
    else:
        gathers = 2 if stage == 3 else 0  # noqa: PLR2004  the stage of ZeRO
        entries |= {
            Quantity.GATHER_NEAR_BYTES: gradient.near + gathers * parameter.near,
            Quantity.GATHER_FAR_BYTES: gradient.far + gathers * parameter.far,
            Quantity.GATHER_CALLS: 1 + gathers,
        }
        if stage == 2:  # noqa: PLR2004
            entries[Quantity.PARAMETER_NEAR_BYTES] = parameter.near
            entries[Quantity.PARAMETER_FAR_BYTES] = parameter.far
    total = bill(entries)
    if replicas > 1:
        across = Ring(size=replicas, stride=ring.size * ring.stride)
        shard = gathered(fabric, across, workload.gradient_bytes * count / ring.size)
        total[Quantity.GRADIENT_NEAR_BYTES] += 2 * shard.near
        total[Quantity.GRADIENT_FAR_BYTES] += 2 * shard.far
    return total
