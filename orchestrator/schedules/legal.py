"""What the engines take of a schedule, and the nearest numbers where they refuse.

The set for interleaved 1F1B is Megatron-Core's (`forward_backward_pipelining_with_interleaving`,
checked at run time only): pp <= group size <= microbatches, and a last group that is whole
or holds at least pp. Megatron's message speaks of dependency bubbles; in truth many of the
refused orders deadlock (smallest with group size pp: pp 4, vpp 3, 5 microbatches).
"""

from collections.abc import Collection
from typing import assert_never

from orchestrator.schedules.refusal import Refusal
from orchestrator.specs.choices import OverlapAxis, ScheduleKind


def refusal(
    kind: ScheduleKind, *, pp: int, vpp: int, num_microbatches: int, microbatch_group_size: int
) -> Refusal | None:
    """Return why the engines refuse this schedule, None when they take it.

    `microbatch_group_size` matters to interleaved 1F1B alone.
    """
    sizes = {"pp": pp, "vpp": vpp, "microbatches of a step": num_microbatches}
    if kind is ScheduleKind.INTERLEAVED:
        sizes["microbatch_group_size"] = microbatch_group_size
    for name, value in sizes.items():
        if value < 1:
            return Refusal(reason=f"{name}: {value} is less than 1", possible="1 or more")
    match kind:
        case ScheduleKind.NO_PIPELINE:
            return _no_pipeline_refusal(pp=pp, vpp=vpp)
        case ScheduleKind.ONE_F_ONE_B:
            return _one_f_one_b_refusal(vpp=vpp)
        case ScheduleKind.INTERLEAVED:
            return _chunks_refusal(pp=pp, vpp=vpp) or _groups_refusal(
                pp=pp, m=num_microbatches, g=microbatch_group_size
            )
        case _:
            assert_never(kind)


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


def _no_pipeline_refusal(*, pp: int, vpp: int) -> Refusal | None:
    if pp == 1 and vpp == 1:
        return None
    return Refusal(
        reason=f"no-pipeline runs one stage, not pp {pp} x vpp {vpp}",
        possible="interleaved-1f1b" if pp > 1 and vpp > 1 else "1f1b" if pp > 1 else "vpp 1",
    )


def _one_f_one_b_refusal(*, vpp: int) -> Refusal | None:
    if vpp == 1:
        return None
    return Refusal(
        reason=f"1f1b runs one stage a rank, not vpp {vpp}",
        possible="vpp 1, or interleaved-1f1b",
    )


def _chunks_refusal(*, pp: int, vpp: int) -> Refusal | None:
    if vpp == 1:
        return Refusal(
            reason="interleaved-1f1b needs vpp above 1, not vpp 1", possible="vpp 2, or 1f1b"
        )
    if pp == 1:
        return Refusal(
            reason=f"vpp {vpp} needs pp above 1, not pp 1", possible="vpp 1, or pp 2 or more"
        )
    return None


def _groups_refusal(*, pp: int, m: int, g: int) -> Refusal | None:
    rest = m % g
    if pp <= g <= m and (rest == 0 or rest >= pp):
        return None
    if m < pp:
        reason = f"interleaved-1f1b needs at least pp microbatches a step: {m} is less than pp {pp}"
    elif g < pp:
        reason = f"microbatch_group_size {g} is less than pp {pp}"
    elif g > m:
        reason = f"microbatch_group_size {g} is more than the {m} microbatches of a step"
    else:
        reason = (
            f"{m} microbatches in groups of {g} leave a last group of {rest}, less than pp {pp}: "
            "ranks would idle or wait for each other for ever"
        )
    microbatches = _nearest_microbatches(pp=pp, m=m, g=g)
    group_size = _nearest_group_size(pp=pp, m=m, g=g)
    words = []
    if m not in microbatches:
        words.append(
            f"{' or '.join(map(str, microbatches))} microbatches in groups of {max(g, pp)}"
        )
    if group_size is not None:
        words.append(f"{m} microbatches in groups of {group_size}")
    return Refusal(
        reason=reason,
        possible="; or ".join(words),
        nearest_num_microbatches=microbatches,
        nearest_group_size=group_size,
    )


def _nearest_microbatches(*, pp: int, m: int, g: int) -> tuple[int, ...]:
    """Return the legal microbatch counts around m for group size g, or pp where g is smaller."""
    g = max(g, pp)
    if m <= g:
        return (g,)
    whole = m - m % g
    return (m,) if m % g == 0 or m % g >= pp else (whole, whole + pp)


def _nearest_group_size(*, pp: int, m: int, g: int) -> int | None:
    """Return the legal group size closest to g for m microbatches; the smaller of two."""
    if m < pp:
        return None
    start = min(max(g, pp), m)
    # Ends: a single group of all m microbatches is always legal.
    for distance in range(m):
        for size in (start - distance, start + distance):
            if pp <= size <= m and (m % size == 0 or m % size >= pp):
                return size
    return None
