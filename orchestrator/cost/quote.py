"""The price of a layout: a plan with its parts, and what limits it."""

from collections.abc import Mapping
from types import MappingProxyType

from orchestrator.cost.basis import basis_of
from orchestrator.cost.flops import model_flop_per_step
from orchestrator.cost.memory import memory_of
from orchestrator.cost.step import cost_of
from orchestrator.cost.workload import Workload, workload_of
from orchestrator.records.calibration import Calibration
from orchestrator.records.layout import Layout
from orchestrator.records.plan import Bubble, CostParts, MemoryParts, Plan
from orchestrator.records.run import ResolvedRun
from orchestrator.schedules.closed_forms import bubble_fraction

MEMORY_BINDS_ABOVE = 0.95
"""Share of the usable memory above which memory is what limits a layout."""

PART_BINDS_ABOVE = 0.05
"""Share of the step below which no single cause but computation limits it."""

COMPUTE = "compute"
MEMORY = "memory"

LIMITS: Mapping[str, str] = MappingProxyType(
    {
        "recompute_s": "recomputation",
        "tp_comm_s": "tp communication",
        "cp_comm_s": "cp communication",
        "ep_comm_s": "ep communication",
        "pp_comm_s": "pp communication",
        "dp_comm_s": "dp communication",
        "bubble_s": "pipeline bubble",
        "imbalance_s": "uneven stages",
        "optimizer_s": "optimizer",
        "host_s": "host overhead",
    }
)
"""The parts of a step that are not the model's own computation, in words."""


def price(run: ResolvedRun, layout: Layout, *, calibration: Calibration | None = None) -> Plan:
    """Return the plan of a layout that obeys the rules; memory may exceed what there is."""
    workload = workload_of(run, calibration=calibration)
    basis = basis_of(workload)
    cost, memory = cost_of(workload, layout), memory_of(workload, layout)
    flop = model_flop_per_step(
        workload.shape, sequence=workload.sequence, tokens=workload.tokens_per_step
    )
    microbatches = layout.num_microbatches(workload.global_batch_size)
    fraction = bubble_fraction(
        layout.schedule, pp=layout.pp, vpp=layout.vpp, num_microbatches=microbatches
    )
    peak = workload.chip.peak_flop_per_s * layout.world_size
    return Plan(
        run=run,
        layout=layout,
        precision=workload.precision,
        num_microbatches=microbatches,
        cost=cost,
        memory=memory,
        bubble=Bubble(fraction=fraction),
        model_flop_per_step=flop,
        mfu=flop / cost.total_s / peak,
        binding_limit=binding_limit(cost, memory, workload=workload),
        rates=basis.origin,
        interval_s=basis.interval(cost.total_s),
    )


def binding_limit(cost: CostParts, memory: MemoryParts, *, workload: Workload) -> str:
    """Return what limits a layout, in words.

    Memory when it is nearly used up; else the largest cause that is not the model's own
    computation; else computation, where every such cause is small.
    """
    if memory.total_bytes > MEMORY_BINDS_ABOVE * workload.chip.memory_bytes:
        return MEMORY
    largest = max(LIMITS, key=lambda field: float(getattr(cost, field)))
    if getattr(cost, largest) > PART_BINDS_ABOVE * cost.total_s:
        return LIMITS[largest]
    return COMPUTE
