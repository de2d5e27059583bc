"""The times of a run's stages, modelled: what its schedule is simulated with."""

from orchestrator.cost.step import hop_s, stage_seconds
from orchestrator.cost.workload import Workload
from orchestrator.records.layout import Layout
from orchestrator.schedules.times import StageTimes

_NS_PER_S = 1e9


def modelled_times(workload: Workload, layout: Layout) -> StageTimes:
    """Return how long each virtual stage takes for one microbatch, and a hop between ranks."""
    stages = stage_seconds(workload, layout)
    return StageTimes(
        forward_ns=tuple(round(_NS_PER_S * one.forward_s) for one in stages),
        backward_ns=tuple(round(_NS_PER_S * one.backward_s) for one in stages),
        weight_grad_ns=tuple(round(_NS_PER_S * one.weight_grad_s) for one in stages),
        latency_ns=round(_NS_PER_S * hop_s(workload, layout)),
    )
