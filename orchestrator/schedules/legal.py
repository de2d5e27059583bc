"""What the engines take of a schedule, and the nearest numbers where they refuse.

Each engine's set is its own, and tests hold ours against what the engine does. Megatron-Core on
interleaved 1F1B (`forward_backward_pipelining_with_interleaving`, checked at run time only):
pp <= group size <= microbatches, and a last group that is whole or holds at least pp. Its message
speaks of dependency bubbles; in truth many of the refused orders deadlock (smallest with group
size pp: pp 4, vpp 3, 5 microbatches).
"""

from collections.abc import Collection
from typing import assert_never

from orchestrator.schedules import legal_groups
from orchestrator.schedules.engines import PipelineEngine, engines_of
from orchestrator.schedules.refusal import Refusal
from orchestrator.specs.choices import OverlapAxis, ScheduleKind

_V_CHUNKS = 2


def refusal(
    kind: ScheduleKind, *, pp: int, vpp: int, num_microbatches: int, microbatch_group_size: int
) -> Refusal | None:
    """Return why the engine that usually runs a schedule refuses it, None when it is taken.

    `microbatch_group_size` matters to Megatron's interleaved schedules alone.
    """
    return refusal_by(
        engines_of(kind)[0],
        kind,
        pp=pp,
        vpp=vpp,
        num_microbatches=num_microbatches,
        microbatch_group_size=microbatch_group_size,
    )


def refusal_by(
    engine: PipelineEngine,
    kind: ScheduleKind,
    *,
    pp: int,
    vpp: int,
    num_microbatches: int,
    microbatch_group_size: int,
) -> Refusal | None:
    """Return why an engine refuses a schedule, None when it takes it."""
    if engine not in engines_of(kind):
        return Refusal(
            reason=f"{engine} does not run {kind}", possible=f"run by {', '.join(engines_of(kind))}"
        )
    sizes = {"pp": pp, "vpp": vpp, "microbatches of a step": num_microbatches}
    if engine is PipelineEngine.MEGATRON and kind in _GROUPED:
        sizes["microbatch_group_size"] = microbatch_group_size
    for name, value in sizes.items():
        if value < 1:
            return Refusal(reason=f"{name}: {value} is less than 1", possible="1 or more")
    refused = _chunks_refusal(kind, engine=engine, pp=pp, vpp=vpp)
    if refused is not None:
        return refused
    if engine is PipelineEngine.TORCH:
        return _torch_refusal(kind, pp=pp, m=num_microbatches)
    if kind in _GROUPED:
        return legal_groups.refusal(kind, pp=pp, m=num_microbatches, g=microbatch_group_size)
    return None


def p2p_refusal(kind: ScheduleKind, *, pp: int, overlap: Collection[OverlapAxis]) -> Refusal | None:
    """Return why a schedule does not go with (un)overlapped pipeline communication."""
    overlapped = OverlapAxis.PP in overlap
    if kind is ScheduleKind.ONE_F_ONE_B and overlapped:
        return Refusal(
            reason="1f1b cannot overlap pipeline communication in Megatron-Core",
            possible="leave pp out of overlap, or interleaved-1f1b",
        )
    if kind is ScheduleKind.INTERLEAVED and pp == 2 and not overlapped:  # noqa: PLR2004
        # With two ranks both neighbours are the same rank, and Megatron's batched sends and
        # receives between the pair get mixed: training runs on wrong activations, silently.
        return Refusal(
            reason="interleaved-1f1b with pp 2 needs overlapped pipeline communication",
            possible="add pp to overlap, or pp 3 or more",
        )
    return None


_GROUPED = (ScheduleKind.INTERLEAVED, ScheduleKind.COMBINED)


def _chunks_refusal(
    kind: ScheduleKind, *, engine: PipelineEngine, pp: int, vpp: int
) -> Refusal | None:
    match kind:
        case ScheduleKind.NO_PIPELINE:
            return _no_pipeline_refusal(pp=pp, vpp=vpp)
        case ScheduleKind.ONE_F_ONE_B | ScheduleKind.GPIPE:
            return _one_chunk_refusal(kind, vpp=vpp)
        case ScheduleKind.INTERLEAVED | ScheduleKind.COMBINED:
            alone = engine is PipelineEngine.MEGATRON and pp == 1
            return _many_chunks_refusal(kind, vpp=vpp) or (_alone_refusal(vpp) if alone else None)
        case ScheduleKind.LOOPED_BFS | ScheduleKind.ZERO_BUBBLE:
            return _many_chunks_refusal(kind, vpp=vpp)
        case ScheduleKind.ZB_V | ScheduleKind.DUAL_PIPE_V:
            return _two_chunks_refusal(kind, vpp=vpp)
        case _:
            assert_never(kind)


def _no_pipeline_refusal(*, pp: int, vpp: int) -> Refusal | None:
    if pp == 1 and vpp == 1:
        return None
    return Refusal(
        reason=f"no-pipeline runs one stage, not pp {pp} x vpp {vpp}",
        possible="interleaved-1f1b" if pp > 1 and vpp > 1 else "1f1b" if pp > 1 else "vpp 1",
    )


def _one_chunk_refusal(kind: ScheduleKind, *, vpp: int) -> Refusal | None:
    if vpp == 1:
        return None
    instead = "looped-bfs" if kind is ScheduleKind.GPIPE else "interleaved-1f1b"
    return Refusal(
        reason=f"{kind} runs one stage a rank, not vpp {vpp}", possible=f"vpp 1, or {instead}"
    )


def _many_chunks_refusal(kind: ScheduleKind, *, vpp: int) -> Refusal | None:
    if vpp > 1:
        return None
    return Refusal(reason=f"{kind} needs vpp above 1, not vpp 1", possible="vpp 2, or 1f1b")


def _alone_refusal(vpp: int) -> Refusal:
    return Refusal(
        reason=f"vpp {vpp} needs pp above 1, not pp 1", possible="vpp 1, or pp 2 or more"
    )


def _two_chunks_refusal(kind: ScheduleKind, *, vpp: int) -> Refusal | None:
    if vpp == _V_CHUNKS:
        return None
    return Refusal(
        reason=f"{kind} runs two stages a rank, there and back, not vpp {vpp}", possible="vpp 2"
    )


def _torch_refusal(kind: ScheduleKind, *, pp: int, m: int) -> Refusal | None:
    match kind:
        case ScheduleKind.ONE_F_ONE_B:
            return _few_refusal(kind, m=m, least=pp, least_is=f"pp {pp}")
        case ScheduleKind.DUAL_PIPE_V:
            least = _V_CHUNKS * pp
            return _few_refusal(kind, m=m, least=least, least_is=f"its {least} stages")
        case ScheduleKind.INTERLEAVED | ScheduleKind.ZERO_BUBBLE:
            return legal_groups.rounds_refusal(kind, pp=pp, m=m)
        case _:
            return None


def _few_refusal(kind: ScheduleKind, *, m: int, least: int, least_is: str) -> Refusal | None:
    if m >= least:
        return None
    return Refusal(
        reason=f"torch's {kind} needs as many microbatches as {least_is}: {m} is less",
        possible=f"{least} microbatches or more",
        nearest_num_microbatches=(least,),
    )
