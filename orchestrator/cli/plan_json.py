"""A plan as the JSON document that scripts rely on: keys are added, never renamed or removed."""

from dataclasses import asdict
from typing import Any

from orchestrator.records.layout import Layout
from orchestrator.records.plan import Plan, PlanReport
from orchestrator.units import TFLOP, gib

SCHEMA = 1


def report_document(report: PlanReport, *, elapsed_s: float) -> dict[str, Any]:
    """Return the whole answer of `llmorch plan --json`."""
    return {
        "schema": SCHEMA,
        "plans": [plan_document(plan) for plan in report.plans],
        "rejected": [asdict(rejection) for rejection in report.rejected],
        "evaluated": report.evaluated,
        "elapsed_s": round(elapsed_s, 3),
        "explanation": list(report.explanation),
    }


def plan_document(plan: Plan) -> dict[str, Any]:
    """Return one plan; `parts` sum to the step time (`_s`) and to the memory (`_bytes`)."""
    return {
        "layout": layout_document(plan.layout),
        "precision": plan.precision.value,
        "step_time_s": plan.step_time_s,
        "tokens_per_s_per_gpu": plan.tokens_per_s_per_gpu,
        "model_tflops_per_gpu": plan.model_flop_per_s_per_gpu / TFLOP,
        "mfu": plan.mfu,
        "memory_gib": gib(plan.memory.total_bytes),
        "binding_limit": plan.binding_limit,
        "bubble_fraction": plan.bubble.fraction,
        "bubble_measure": plan.bubble.measure,
        "parts": {"time": asdict(plan.cost), "memory": asdict(plan.memory)},
        "num_microbatches": plan.num_microbatches,
        "rates": plan.rates.value,
        "step_interval_s": list(plan.interval_s) if plan.interval_s else None,
        "training_days": plan.training_s / 86_400,
    }


def layout_document(layout: Layout) -> dict[str, Any]:
    """Return a layout under the names of the run file, dp among them."""
    return {
        "tp": layout.tp,
        "pp": layout.pp,
        "dp": layout.dp,
        "cp": layout.cp,
        "ep": layout.ep,
        "etp": layout.etp,
        "vpp": layout.vpp,
        "microbatch_group_size": layout.microbatch_group_size,
        "micro_batch_size": layout.micro_batch_size,
        "zero_stage": layout.zero_stage,
        "zero_replicas": layout.zero_replicas,
        "offload": layout.offload.value,
        "overlap": [axis.value for axis in layout.overlap],
        "cp_comm_type": layout.cp_comm_type.value if layout.cp_comm_type else None,
        "sequence_parallel": layout.sequence_parallel,
        "recompute": {
            "granularity": layout.recompute.granularity.value,
            "modules": list(layout.recompute.modules),
            "layers": layout.recompute.layers,
        },
        "schedule": layout.schedule.value,
        "stage_layout": layout.stage_layout,
    }
