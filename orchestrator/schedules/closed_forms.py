"""Time and memory of a schedule without simulating it, for stages of equal time.

Legend: p pipeline ranks, v chunks a rank, m microbatches, g group size, r rank from 0, f and b
forward and backward time of one chunk, c latency of one hop between ranks.

Tests hold each formula against the simulation, exactly and in integers, on its domain:
no pipeline and 1F1B for every m; interleaved where `legal.refusal` says None. For stages of
unequal time there is no closed form: simulate.
"""

from typing import assert_never

from orchestrator.schedules import interleaved, one_f_one_b
from orchestrator.specs.choices import ScheduleKind


def makespan_ns(
    kind: ScheduleKind, *, pp: int, vpp: int, num_microbatches: int, chunk_ns: int
) -> int:
    """Return nanoseconds of a step's pipeline, without latency.

    T = (m v + p - 1) (f + b), with `chunk_ns` = f + b of one chunk.

    Source: Narayanan et al. 2021 (arXiv 2104.04473), section 2.2, as ideal time + bubble.
    Ignored: latency (`latency_hops`) and uneven stages.
    """
    return _slots(kind, pp=pp, vpp=vpp, num_microbatches=num_microbatches) * chunk_ns


def bubble_ns(kind: ScheduleKind, *, pp: int, chunk_ns: int) -> int:
    """Return nanoseconds of makespan - ideal, where ideal is m v (f + b): every rank busy.

    (p - 1) (f + b), the same for every m, v and g. Measure: makespan. Ignored: as `makespan_ns`.
    """
    return _idle_slots(kind, pp=pp) * chunk_ns


def bubble_fraction(kind: ScheduleKind, *, pp: int, vpp: int, num_microbatches: int) -> float:
    """Return (makespan - ideal) / makespan, the share of the step that a rank idles.

    (p - 1) / (m v + p - 1). GPipe and the zero-bubble papers quote this share.
    """
    slots = _slots(kind, pp=pp, vpp=vpp, num_microbatches=num_microbatches)
    return _idle_slots(kind, pp=pp) / slots


def bubble_overhead(kind: ScheduleKind, *, pp: int, vpp: int, num_microbatches: int) -> float:
    """Return (makespan - ideal) / ideal, what idling adds to the work.

    (p - 1) / (m v). The Megatron and Llama papers quote this ratio.
    """
    return _idle_slots(kind, pp=pp) / (num_microbatches * vpp)


def latency_hops(kind: ScheduleKind, *, pp: int, vpp: int, num_microbatches: int) -> int:
    """Return how many latencies of one hop lie on the critical path: makespan grows by c x this.

    1F1B, any c, with q, s = divmod(m - 1, p):  2 (p - 1) (q + 1) + 2 max(0, s - 1)
    interleaved, g = p, p divides m, c at most min(f, b):  2 (p v - 1)

    Source: found by simulation, and equal to it in every case of the tests; not from a paper.
    Ignored: groups larger than p hide all but about 2 (p - 1) hops; time on the wire.
    """
    match kind:
        case ScheduleKind.NO_PIPELINE:
            return 0
        case ScheduleKind.ONE_F_ONE_B:
            rounds, rest = divmod(num_microbatches - 1, pp)
            return 2 * (pp - 1) * (rounds + 1) + 2 * max(0, rest - 1)
        case ScheduleKind.INTERLEAVED:
            return 2 * (pp * vpp - 1)
        case _:
            assert_never(kind)


def peak_in_flight(
    kind: ScheduleKind,
    *,
    pp: int,
    vpp: int,
    num_microbatches: int,
    microbatch_group_size: int,
    rank: int,
) -> int:
    """Return how many activations of chunks (1/v of a rank's layers) a rank holds at its peak.

    1F1B:  min(p - r, m)
    interleaved:  min(2 (p - r - 1) + (v - 1) g + 1, m v)

    A chunk counts from the start of its forward to the end of its backward. Exact for any
    durations, as it follows from the order alone.
    """
    match kind:
        case ScheduleKind.NO_PIPELINE:
            return 1
        case ScheduleKind.ONE_F_ONE_B:
            warmup = one_f_one_b.warmup_forwards(
                pp=pp, num_microbatches=num_microbatches, rank=rank
            )
        case ScheduleKind.INTERLEAVED:
            warmup = interleaved.warmup_forwards(
                pp=pp,
                vpp=vpp,
                num_microbatches=num_microbatches,
                microbatch_group_size=microbatch_group_size,
                rank=rank,
            )
        case _:
            assert_never(kind)
    return min(warmup + 1, num_microbatches * vpp)


def _slots(kind: ScheduleKind, *, pp: int, vpp: int, num_microbatches: int) -> int:
    """Return the step in units of f + b of one chunk."""
    return num_microbatches * vpp + _idle_slots(kind, pp=pp)


def _idle_slots(kind: ScheduleKind, *, pp: int) -> int:
    match kind:
        case ScheduleKind.NO_PIPELINE:
            return 0
        case ScheduleKind.ONE_F_ONE_B | ScheduleKind.INTERLEAVED:
            return pp - 1
        case _:
            assert_never(kind)
