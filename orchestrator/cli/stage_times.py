"""The times of a run's stages, modelled: what its schedule is simulated with."""

from orchestrator.cost import communication
from orchestrator.cost.slice import slice_of
from orchestrator.cost.step import COMM_PASSES, Work, stage_works
from orchestrator.cost.workload import Workload
from orchestrator.records.layout import Layout
from orchestrator.schedules.times import StageTimes

_NS_PER_S = 1e9
_PASSES = 3
"""Of the matrix products of a layer forward is one, input gradients one, weight gradients one."""


def modelled_times(workload: Workload, layout: Layout) -> StageTimes:
    """Return how long each virtual stage takes for one microbatch, and a hop between ranks."""
    works = stage_works(workload, layout)
    hops_s = communication.pp_microbatch_s(workload, layout, slice_of(workload, layout))
    return StageTimes(
        forward_ns=tuple(round(_NS_PER_S * _forward_s(work)) for work in works),
        backward_ns=tuple(round(_NS_PER_S * (work.total_s - _forward_s(work))) for work in works),
        weight_grad_ns=tuple(
            round(_NS_PER_S * (work.matmul_s + work.logits_s) / _PASSES) for work in works
        ),
        latency_ns=round(_NS_PER_S * hops_s / (2 * layout.vpp)),
    )


def _forward_s(work: Work) -> float:
    """Return the forward part of a stage's work: a third of what it computes once, half the rest.

    Recomputation belongs to the backward.
    """
    computed_s = work.matmul_s + work.attention_s + work.elementwise_s + work.logits_s
    exchanged_s = work.tp_comm_s + work.cp_comm_s + work.ep_comm_s + work.host_s
    return computed_s / _PASSES + exchanged_s / COMM_PASSES
