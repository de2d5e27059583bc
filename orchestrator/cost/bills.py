"""The bills of layouts: what every pipeline rank does, and how a schedule strings it together."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import assert_never

import numpy as np

from orchestrator.cost import exchange
from orchestrator.cost.compose import Array, Bills
from orchestrator.cost.flops import BACKWARD_PER_FORWARD
from orchestrator.cost.layer_bill import (
    Bill,
    LayerBill,
    bill,
    head_bill,
    layer_bill,
    mtp_projection_bill,
)
from orchestrator.cost.quantity import NUM_QUANTITIES
from orchestrator.cost.shape import LayerKind
from orchestrator.cost.share import Share, held_parameters, shares_of
from orchestrator.cost.slice import Slice, slice_of
from orchestrator.cost.workload import Workload
from orchestrator.records.layout import Layout, Recompute
from orchestrator.specs.choices import OverlapAxis, RecomputeGranularity, ScheduleKind

COMM_PASSES = 2
"""Collectives of a layer run forward and, mirrored, backward; full recomputation adds one."""

_BOTH_WAYS = 1 + BACKWARD_PER_FORWARD


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RankBill:
    """What one microbatch asks of a pipeline rank: once, and again to recompute."""

    work: Bill
    again: Bill


def bills_of(workload: Workload, layouts: Sequence[Layout]) -> Bills:
    """Return the bills of layouts of one workload."""
    return joined([_one(workload, layout) for layout in layouts])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayoutBill:
    """The bill of one layout: [k, q] for each kind of pipeline rank, [k] their counts."""

    work: Array
    again: Array
    replica: Array
    ranks: Array
    microbatches: float
    vpp: float
    bubble: float
    world: float
    overlaps: float


def layout_bill(workload: Workload, layout: Layout) -> LayoutBill:
    """Return the bill of one layout."""
    return _one(workload, layout)


def joined(rows: Sequence[LayoutBill]) -> Bills:
    """Return many layouts' bills as one, kinds of ranks filled up with empty ones."""
    most = max(len(row.ranks) for row in rows)

    def padded(name: str) -> Array:
        table = np.zeros((len(rows), most, NUM_QUANTITIES))
        for place, row in enumerate(rows):
            block: Array = getattr(row, name)
            table[place, : len(block)] = block
        return table

    ranks = np.zeros((len(rows), most))
    for place, row in enumerate(rows):
        ranks[place, : len(row.ranks)] = row.ranks
    return Bills(
        work=padded("work"),
        again=padded("again"),
        replica=padded("replica"),
        ranks=ranks,
        microbatches=np.array([row.microbatches for row in rows]),
        vpp=np.array([row.vpp for row in rows]),
        bubble=np.array([row.bubble for row in rows]),
        world=np.array([row.world for row in rows]),
        overlaps=np.array([row.overlaps for row in rows]),
    )


def _one(workload: Workload, layout: Layout) -> LayoutBill:
    part = slice_of(workload, layout)
    counted: dict[Share, int] = {}
    for share in shares_of(workload.shape, layout):
        counted[share] = counted.get(share, 0) + 1
    hidden = exchange.hides_tp(layout)
    passed = exchange.pp_bill(workload, layout, part)
    rows = [
        rank_bill(workload, part, share=share, recompute=layout.recompute, hides_tp=hidden)
        for share in counted
    ]
    replica = [
        exchange.replica_bill(workload, layout, held_parameters(workload, layout, share))
        for share in counted
    ]
    return LayoutBill(
        work=np.array([row.work for row in rows]) + passed,
        again=np.array([row.again for row in rows]),
        replica=np.array(replica),
        ranks=np.array(list(counted.values()), dtype=float),
        microbatches=layout.num_microbatches(workload.global_batch_size),
        vpp=layout.vpp,
        bubble=bubble_factor(layout.schedule),
        world=layout.world_size,
        overlaps=float(OverlapAxis.DP in layout.overlap),
    )


def bubble_factor(kind: ScheduleKind) -> float:
    """Return what a schedule leaves of the bubble of whole backwards.

    1, where the backward is whole; a third for zero-bubble schedules and two thirds for
    DualPipeV, with forward, input and weight gradients of equal length. Source:
    `schedules.closed_forms.bubble_ns`, which tests hold against simulation.
    """
    match kind:
        case ScheduleKind.ZERO_BUBBLE | ScheduleKind.ZB_V:
            return 1 / 3
        case ScheduleKind.DUAL_PIPE_V:
            return 2 / 3
        case (
            ScheduleKind.NO_PIPELINE
            | ScheduleKind.ONE_F_ONE_B
            | ScheduleKind.INTERLEAVED
            | ScheduleKind.GPIPE
            | ScheduleKind.COMBINED
            | ScheduleKind.LOOPED_BFS
        ):
            return 1.0
        case _:
            assert_never(kind)


@lru_cache(maxsize=65536)
def rank_bill(
    workload: Workload, part: Slice, *, share: Share, recompute: Recompute, hides_tp: bool
) -> RankBill:
    """Return what a microbatch asks of a rank with this share, sends between ranks left out."""
    full = recompute.granularity is RecomputeGranularity.FULL
    repeated = share.recomputed_layers(recompute) / share.layers if share.layers else 0.0
    passes = COMM_PASSES + (repeated if full else 0.0)
    work, again = bill(), bill()
    for kind, count in share.kinds:
        layer = layer_bill(workload, part, kind=kind)
        exchanged = exchange.tp_bill(workload, part, kind=kind, hidden=hides_tp)
        if kind is LayerKind.MOE:
            exchanged = exchanged + exchange.ep_bill(workload, part)
        work = work + count * (_BOTH_WAYS * layer.forward + layer.once + passes * exchanged)
        if part.cp > 1:
            work = work + count * _BOTH_WAYS * exchange.cp_bill(workload, part)
        if repeated:
            again = again + count * repeated * _again(layer, recompute=recompute, kind=kind)
    if share.head:
        work = work + _BOTH_WAYS * (1 + share.mtp_layers) * head_bill(workload, part)
    if share.mtp_layers:
        work = work + _BOTH_WAYS * share.mtp_layers * mtp_projection_bill(workload, part)
    return RankBill(work=work, again=again)


def _again(layer: LayerBill, *, recompute: Recompute, kind: LayerKind) -> Bill:
    """Return what a layer computes again, in Megatron's names of modules."""
    if recompute.granularity is RecomputeGranularity.FULL:
        return layer.forward
    always = {
        "core_attn": layer.core,
        "attn_out": layer.output,
        "layernorm": layer.norms,
        "mla_up_proj": layer.up_projection,
    }
    by_kind = (
        {"moe_act": layer.activation, "shared_experts": layer.shared, "moe": layer.experts}
        if kind is LayerKind.MOE
        else {
            "mlp": layer.mlp + layer.activation,
            "mlp_in": layer.mlp_input + layer.activation,
            "mlp_act": layer.activation,
        }
    )
    modules = {**always, **by_kind}
    total = bill()
    for module in recompute.modules:
        total = total + modules.get(module, 0.0)
    return total
