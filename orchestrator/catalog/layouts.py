"""Between a layout as people write it and as rooms exchange it, defaults filled in."""

from orchestrator.records.layout import Layout, Recompute
from orchestrator.specs.choices import CpCommType, ScheduleKind
from orchestrator.specs.layout import LayoutSpec, RecomputeSpec
from orchestrator.specs.model import ModelCard

ULYSSES_ENGINES = frozenset({"deepspeed"})
"""Engines whose cp exchanges heads for sequence, where a run file does not say how."""


def layout_of(spec: LayoutSpec, *, model: ModelCard, world_size: int, engine: str = "") -> Layout:
    """Return the layout with its data-parallel degree: world / (tp x cp x pp), rounded down.

    Where that does not divide, the rule `world-size` says so; nothing is decided here.
    """
    kind = spec.schedule or _schedule_kind(spec)
    exchange = CpCommType.ALL_TO_ALL if engine in ULYSSES_ENGINES else CpCommType.P2P
    return Layout(
        tp=spec.tp,
        pp=spec.pp,
        cp=spec.cp,
        dp=max(1, world_size // (spec.tp * spec.cp * spec.pp)),
        ep=spec.ep,
        etp=spec.etp or (spec.tp if model.moe else 1),
        vpp=spec.vpp,
        microbatch_group_size=spec.microbatch_group_size or spec.pp,
        micro_batch_size=spec.micro_batch_size,
        zero_stage=spec.zero_stage,
        zero_replicas=spec.zero_replicas,
        offload=spec.offload,
        overlap=tuple(sorted(set(spec.overlap))),
        cp_comm_type=spec.cp_comm_type or (exchange if spec.cp > 1 else None),
        sequence_parallel=spec.sequence_parallel,
        recompute=Recompute(
            granularity=spec.recompute.granularity,
            modules=spec.recompute.modules,
            layers=spec.recompute.layers,
        ),
        schedule=kind,
        stage_layout=spec.stage_layout,
    )


def layout_spec_of(layout: Layout) -> LayoutSpec:
    """Return what a run file would say for a layout; dp is left out, it follows from the world."""
    interleaved = layout.schedule is ScheduleKind.INTERLEAVED
    return LayoutSpec(
        tp=layout.tp,
        pp=layout.pp,
        cp=layout.cp,
        ep=layout.ep,
        etp=layout.etp,
        vpp=layout.vpp,
        microbatch_group_size=layout.microbatch_group_size if interleaved else None,
        micro_batch_size=layout.micro_batch_size,
        zero_stage=layout.zero_stage,
        zero_replicas=layout.zero_replicas,
        offload=layout.offload,
        overlap=layout.overlap,
        cp_comm_type=layout.cp_comm_type,
        sequence_parallel=layout.sequence_parallel,
        recompute=RecomputeSpec(
            granularity=layout.recompute.granularity,
            modules=layout.recompute.modules,
            layers=layout.recompute.layers,
        ),
        schedule=layout.schedule,
        stage_layout=layout.stage_layout,
    )


def _schedule_kind(spec: LayoutSpec) -> ScheduleKind:
    if spec.pp == 1 and spec.vpp == 1:
        return ScheduleKind.NO_PIPELINE
    return ScheduleKind.INTERLEAVED if spec.vpp > 1 else ScheduleKind.ONE_F_ONE_B
