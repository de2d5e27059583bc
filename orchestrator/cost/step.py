"""Seconds of one optimizer step, by cause.

The pipeline: a microbatch costs rank r the time t_r (forward, backward, exposed communication,
host). With p ranks, v chunks and m microbatches the step takes

    T = m max_r t_r + (sum_r t_r - max_r t_r) / v

which is exact for 1F1B with one heavy end stage, and for equal stages it is the closed form
(m v + p - 1) t / v of `schedules.closed_forms`; for stages uneven in the middle it is an upper
bound, at most 16 % in 500 random cases. The work parts are the mean over ranks, `imbalance_s`
is m (max - mean) and `bubble_s` the second term: they sum to the step.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache

from orchestrator.cost import communication
from orchestrator.cost.flops import BACKWARD_PER_FORWARD
from orchestrator.cost.layer import (
    LayerForward,
    head_forward_s,
    layer_forward,
    mtp_projection_s,
)
from orchestrator.cost.parameters import Held
from orchestrator.cost.shape import LayerKind
from orchestrator.cost.share import Share, held_parameters, shares_of
from orchestrator.cost.slice import Slice, slice_of
from orchestrator.cost.workload import Workload
from orchestrator.records.layout import Layout, Recompute
from orchestrator.records.plan import CostParts
from orchestrator.specs.choices import RecomputeGranularity

ADAM_BYTES = 34.0
"""Bytes moved for a parameter by AdamW: gradient, master and moments in, the last three and the
working copy out, and once more the gradient for its norm."""

NORM_SHARE_OF_HIDDEN = 0.4
"""Share of hidden-state traffic in the two norms: 8 of 20 bytes, assumed."""

COMM_PASSES = 2
"""Collectives of a layer run forward and, mirrored, backward; full recomputation adds one."""

_BOTH_WAYS = 1 + BACKWARD_PER_FORWARD
_FULL = RecomputeGranularity.FULL


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Seconds that one microbatch costs one pipeline rank, by cause; they sum to the total."""

    matmul_s: float = 0.0
    attention_s: float = 0.0
    elementwise_s: float = 0.0
    logits_s: float = 0.0
    recompute_s: float = 0.0
    tp_comm_s: float = 0.0
    cp_comm_s: float = 0.0
    ep_comm_s: float = 0.0
    pp_comm_s: float = 0.0
    host_s: float = 0.0

    @property
    def total_s(self) -> float:
        """All causes."""
        return math.fsum(getattr(self, field.name) for field in fields(self))


def cost_of(workload: Workload, layout: Layout) -> CostParts:
    """Return the seconds of one optimizer step of a layout."""
    part = slice_of(workload, layout)
    works = [
        _rank_work(workload, layout, part, share=share)
        for share in shares_of(workload.shape, layout)
    ]
    microbatches = layout.num_microbatches(workload.global_batch_size)
    mean = {name: microbatches * value for name, value in _mean(works).items()}
    totals = [work.total_s for work in works]
    bubble_s = pipeline_bubble_s(totals, vpp=layout.vpp)
    imbalance_s = microbatches * (max(totals) - math.fsum(totals) / len(totals))
    optimizer_s = _optimizer_s(workload, layout)
    dp_comm_s = _dp_comm_s(workload, layout)
    efficiency = workload.chip.efficiency
    step_s = sum(mean.values()) + bubble_s + imbalance_s + optimizer_s + dp_comm_s
    stragglers_s = efficiency.straggler_per_doubling * math.log2(layout.world_size) * step_s
    mean["host_s"] += efficiency.step_host_s + stragglers_s
    return CostParts(
        **mean,
        dp_comm_s=dp_comm_s,
        bubble_s=bubble_s,
        imbalance_s=imbalance_s,
        optimizer_s=optimizer_s,
    )


def stage_works(workload: Workload, layout: Layout) -> tuple[Work, ...]:
    """Return what one microbatch costs each virtual stage, sends between ranks left out."""
    part = slice_of(workload, layout)
    # Each stage as if it were a rank of its own: what it holds is then its share.
    apart = replace(layout, pp=layout.num_stages, vpp=1)
    return tuple(
        _work(
            workload,
            part,
            share=share,
            recompute=layout.recompute,
            tp_exposed=communication.tp_exposed(layout),
            pp_s=0.0,
        )
        for share in shares_of(workload.shape, apart)
    )


def pipeline_bubble_s(rank_s: Sequence[float], *, vpp: int) -> float:
    """Return the seconds of a step beyond m times the slowest rank's microbatch.

    (sum_r t_r - max_r t_r) / v; for p equal ranks (p - 1) t / v. Source: schedules.closed_forms,
    and simulation for a heavy end stage. Ignored: latency between ranks.
    """
    return (math.fsum(rank_s) - max(rank_s)) / vpp


def _rank_work(workload: Workload, layout: Layout, part: Slice, *, share: Share) -> Work:
    """Return a rank's work for one microbatch, from the parts that layouts have in common."""
    return _work(
        workload,
        part,
        share=share,
        recompute=layout.recompute,
        tp_exposed=communication.tp_exposed(layout),
        pp_s=communication.pp_microbatch_s(workload, layout, part),
    )


@lru_cache(maxsize=65536)
def _work(
    workload: Workload,
    part: Slice,
    *,
    share: Share,
    recompute: Recompute,
    tp_exposed: float,
    pp_s: float,
) -> Work:
    forwards = [(layer_forward(workload, part, kind=kind), kind, n) for kind, n in share.kinds]
    again = share.recomputed_layers(recompute) / share.layers if share.layers else 0.0
    passes = COMM_PASSES + (again if recompute.granularity is _FULL else 0.0)
    head_s = head_forward_s(workload, part) if share.head else 0.0
    mtp_s = mtp_projection_s(workload, part) if share.mtp_layers else 0.0
    return Work(
        matmul_s=_BOTH_WAYS
        * (sum(n * one.matmul_s for one, _, n in forwards) + share.mtp_layers * mtp_s),
        attention_s=_BOTH_WAYS * sum(n * one.core_attention_s for one, _, n in forwards),
        elementwise_s=_BOTH_WAYS * sum(n * one.elementwise_s for one, _, n in forwards),
        logits_s=_BOTH_WAYS * (1 + share.mtp_layers) * head_s,
        recompute_s=again
        * sum(n * _again_s(one, recompute=recompute, kind=kind) for one, kind, n in forwards),
        tp_comm_s=passes
        * tp_exposed
        * sum(n * communication.tp_forward_s(workload, part, kind=kind) for _, kind, n in forwards),
        cp_comm_s=_BOTH_WAYS
        * communication.CP_EXPOSED
        * share.layers
        * communication.cp_forward_s(workload, part),
        ep_comm_s=passes
        * communication.EP_EXPOSED
        * sum(n for kind, n in share.kinds if kind is LayerKind.MOE)
        * communication.ep_forward_s(workload, part),
        pp_comm_s=pp_s,
        host_s=sum(n * _host_s(workload, one, kind=kind) for one, kind, n in forwards),
    )


def _again_s(layer: LayerForward, *, recompute: Recompute, kind: LayerKind) -> float:
    """Return the seconds of what a layer computes again, in Megatron's names of modules."""
    if recompute.granularity is _FULL:
        return layer.total_s
    expert_s = layer.mlp_matmul_s - layer.shared_matmul_s
    always = {
        "core_attn": layer.core_attention_s,
        "layernorm": NORM_SHARE_OF_HIDDEN * layer.hidden_s,
        "mla_up_proj": layer.up_projection_s,
    }
    by_kind = (
        {"moe_act": layer.activation_s, "shared_experts": layer.shared_matmul_s, "moe": expert_s}
        if kind is LayerKind.MOE
        else {"mlp": layer.mlp_matmul_s + layer.activation_s}
    )
    return sum({**always, **by_kind}.get(module, 0.0) for module in recompute.modules)


def _host_s(workload: Workload, layer: LayerForward, *, kind: LayerKind) -> float:
    """Return what starting kernels adds to a layer, both ways.

    Each kernel ends in a tail, and a layer takes no less than its launches. Source: fit; the
    number of kernels is assumed. Experts add sorting and waiting for their counts.
    """
    efficiency = workload.chip.efficiency
    tails_s = efficiency.kernels_per_layer * efficiency.kernel_tail_s
    launches_s = efficiency.kernels_per_layer * efficiency.kernel_launch_s
    busy_s = _BOTH_WAYS * layer.total_s
    experts_s = efficiency.moe_layer_host_s if kind is LayerKind.MOE else 0.0
    return tails_s + max(0.0, launches_s - busy_s - tails_s) + experts_s


def _mean(works: Iterable[Work]) -> dict[str, float]:
    """Return the mean over ranks of each part."""
    rows = list(works)
    return {
        field.name: sum(getattr(work, field.name) for work in rows) / len(rows)
        for field in fields(Work)
    }


def _optimizer_s(workload: Workload, layout: Layout) -> float:
    """Return the seconds of AdamW on the rank with most parameters, bound by memory."""
    chip = workload.chip
    rate = chip.memory_bytes_per_s
    dense_domain = layout.zero_domain if layout.zero_stage else 1
    expert_domain = max(1, layout.expert_dp // layout.zero_replicas) if layout.zero_stage else 1
    return max(
        ADAM_BYTES * (held.dense / dense_domain + held.expert / expert_domain) / rate
        for held in _all_held(workload, layout)
    )


def _dp_comm_s(workload: Workload, layout: Layout) -> float:
    """Return the exposed gradient and parameter exchange of the rank that has most of it."""
    return max(
        communication.dp_step_s(workload, layout, held) for held in _all_held(workload, layout)
    )


def _all_held(workload: Workload, layout: Layout) -> tuple[Held, ...]:
    """Return what the pipeline ranks hold, equal ones once."""
    shares = dict.fromkeys(shares_of(workload.shape, layout))
    return tuple(held_parameters(workload, layout, share) for share in shares)
