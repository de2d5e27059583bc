"""The layouts worth pricing: every combination of degrees that an engine could run.

Exhaustive over the axes below, not over every switch: what costs no memory and never slows a
step is on (overlaps, sequence parallelism), and of ZeRO stages 0 and 1 only 1 is proposed where
an engine has it, as it moves fewer bytes and keeps fewer. Rules are not repeated here beyond
what keeps the space small; `prune` asks the table.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

from orchestrator.cost.workload import keeps_scores
from orchestrator.planner.cuts import ENDS, Chunks, chunks_of, schedule_kind
from orchestrator.records.engine import EngineCapabilities
from orchestrator.records.layout import Layout, Recompute
from orchestrator.records.run import ResolvedRun
from orchestrator.specs.choices import (
    OverlapAxis,
    RecomputeGranularity,
    ScheduleKind,
)

MICRO_BATCH_SIZES = (1, 2, 4, 8)

LONG_SEQUENCE = 16_384
"""From here context parallelism is tried from the start; below, only where nothing else fits."""

MAX_CP = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """The dense axes of a layout."""

    tp: int
    cp: int
    pp: int
    dp: int


def candidates(
    run: ResolvedRun, *, capabilities: EngineCapabilities, cps: tuple[int, ...] | None = None
) -> tuple[Layout, ...]:
    """Return the layouts to examine, in a fixed order; `cps` overrides the degrees of cp."""
    found: list[Layout] = []
    for mesh in _meshes(run, capabilities, cps=cps or _context_degrees(run, capabilities)):
        for chunks in chunks_of(run, capabilities, pp=mesh.pp):
            found.extend(_layouts(run, capabilities, mesh=mesh, chunks=chunks))
    return tuple(found)


def longer_context_degrees(run: ResolvedRun, capabilities: EngineCapabilities) -> tuple[int, ...]:
    """Return the degrees of cp above 1 that the sequence allows: a second attempt."""
    if "cp" not in capabilities.axes:
        return ()
    length, world = run.training.sequence_length, run.machine.world_size
    return tuple(
        cp for cp in _powers_of_two(min(MAX_CP, world)) if cp > 1 and length % (2 * cp) == 0
    )


def _context_degrees(run: ResolvedRun, capabilities: EngineCapabilities) -> tuple[int, ...]:
    if run.training.sequence_length < LONG_SEQUENCE:
        return (1,)
    return (1, *longer_context_degrees(run, capabilities))


def _meshes(
    run: ResolvedRun, capabilities: EngineCapabilities, *, cps: tuple[int, ...]
) -> Iterator[Mesh]:
    world, layers = run.machine.world_size, run.model.num_layers
    for tp, cp in product(_tensor_degrees(run, capabilities), cps):
        rest, remainder = divmod(world, tp * cp)
        if remainder or rest == 0:
            continue
        for pp in _divisors(rest):
            if pp == 1 or ("pp" in capabilities.axes and pp <= layers + ENDS):
                yield Mesh(tp=tp, cp=cp, pp=pp, dp=rest // pp)


def _tensor_degrees(run: ResolvedRun, capabilities: EngineCapabilities) -> tuple[int, ...]:
    if "tp" not in capabilities.axes:
        return (1,)
    domain = run.machine.cluster.scale_up_domain_gpus
    most = min(domain, run.machine.world_size)
    return tuple(tp for tp in _powers_of_two(most) if run.model.num_attention_heads % tp == 0)


def _layouts(
    run: ResolvedRun, capabilities: EngineCapabilities, *, mesh: Mesh, chunks: Chunks
) -> Iterator[Layout]:
    schedule = schedule_kind(pp=mesh.pp, vpp=chunks.vpp)
    for ep, etp in _expert_degrees(run, capabilities, mesh=mesh):
        layout = Layout(
            tp=mesh.tp,
            cp=mesh.cp,
            pp=mesh.pp,
            dp=mesh.dp,
            ep=ep,
            etp=etp,
            vpp=chunks.vpp,
            microbatch_group_size=mesh.pp,
            overlap=_overlaps(schedule, mesh=mesh),
            cp_comm_type=capabilities.context_exchange if mesh.cp > 1 else None,
            sequence_parallel=mesh.tp > 1,
            schedule=schedule,
            stage_layout=chunks.stage_layout,
        )
        for size, stage, recompute in product(
            MICRO_BATCH_SIZES,
            _zero_stages(capabilities, mesh=mesh),
            _recomputes(run, capabilities, layers=_chunk_layers(run, layout)),
        ):
            yield replace(layout, micro_batch_size=size, zero_stage=stage, recompute=recompute)


def _expert_degrees(
    run: ResolvedRun, capabilities: EngineCapabilities, *, mesh: Mesh
) -> tuple[tuple[int, int], ...]:
    moe = run.model.moe
    if moe is None:
        return ((1, 1),)
    ranks = run.machine.world_size // mesh.pp
    eps = _powers_of_two(moe.num_experts) if "ep" in capabilities.axes else (1,)
    etps = sorted({1, mesh.tp}) if "etp" in capabilities.axes else [1]
    return tuple(
        (ep, etp)
        for ep, etp in product(eps, etps)
        if moe.num_experts % ep == 0 and ranks % (ep * etp) == 0
    )


def _zero_stages(capabilities: EngineCapabilities, *, mesh: Mesh) -> tuple[int, ...]:
    known = capabilities.zero_stages if mesh.pp == 1 else capabilities.pipeline_zero_stages
    return tuple(stage for stage in known if stage > 0 or 1 not in known)


def _recomputes(
    run: ResolvedRun, capabilities: EngineCapabilities, *, layers: int
) -> tuple[Recompute, ...]:
    """Return no recomputation, the modules worth dropping, and some or all whole layers.

    `layers` are those of the largest chunk: partial recomputation counts by chunk.
    """
    found = [Recompute()]
    modules = _modules_worth_dropping(run)
    if RecomputeGranularity.SELECTIVE in capabilities.recompute:
        found.append(Recompute(granularity=RecomputeGranularity.SELECTIVE, modules=modules))
    if RecomputeGranularity.FULL in capabilities.recompute:
        some = (*(n for n in _powers_of_two(layers) if n < layers), None)
        found.extend(Recompute(granularity=RecomputeGranularity.FULL, layers=n) for n in some)
    return tuple(found)


def _chunk_layers(run: ResolvedRun, layout: Layout) -> int:
    return -(-run.model.num_layers // layout.num_stages)


def _modules_worth_dropping(run: ResolvedRun) -> tuple[str, ...]:
    """Return the modules that free most for their time.

    Unfused attention keeps [s, s] scores; fused attention keeps next to nothing, and there the
    widened state of the MLP is the largest.
    """
    if keeps_scores(run.machine.accelerator):
        return ("core_attn",)
    modules = ("mla_up_proj",) if run.model.mla else ()
    return (*modules, "moe_act") if run.model.moe else (*modules, "mlp")


def _overlaps(schedule: ScheduleKind, *, mesh: Mesh) -> tuple[OverlapAxis, ...]:
    wanted = {
        OverlapAxis.TP: mesh.tp > 1,
        OverlapAxis.DP: mesh.dp * mesh.cp > 1,
        OverlapAxis.PP: schedule is ScheduleKind.INTERLEAVED,
    }
    return tuple(sorted(axis for axis, on in wanted.items() if on))


def _powers_of_two(most: int) -> tuple[int, ...]:
    return tuple(1 << bits for bits in range(most.bit_length()) if 1 << bits <= most)


def _divisors(number: int) -> tuple[int, ...]:
    return tuple(divisor for divisor in range(1, number + 1) if number % divisor == 0)
