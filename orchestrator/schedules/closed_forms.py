"""Time and memory of a schedule without simulating it, for stages of equal time.

Legend: p pipeline ranks, v chunks a rank, m microbatches, g group size, r rank from 0; of one
chunk, f and b forward and backward time, i and w the parts of b for input and weights; c latency
of one hop between ranks.

Tests hold each formula against the simulation, exactly and in integers, on its domain. For
stages of unequal time there is no closed form: simulate.
"""

from functools import lru_cache
from typing import assert_never

from orchestrator.schedules import combined, interleaved, memory, one_f_one_b, schedule
from orchestrator.specs.choices import ScheduleKind

EQUAL_PARTS = 3
"""Parts of f + b where f = i = w, in which the bubbles of split backwards are told."""


def makespan_ns(
    kind: ScheduleKind, *, pp: int, vpp: int, num_microbatches: int, chunk_ns: int
) -> int:
    """Return nanoseconds of a step's pipeline, without latency.

    T = m v (f + b) + bubble, with `chunk_ns` = f + b of one chunk; exact as `bubble_ns` is.

    Source: Narayanan et al. 2021 (arXiv 2104.04473), section 2.2, as ideal time + bubble.
    Ignored: latency (`latency_hops`) and uneven stages.
    """
    return num_microbatches * vpp * chunk_ns + bubble_ns(kind, pp=pp, chunk_ns=chunk_ns)


def bubble_ns(kind: ScheduleKind, *, pp: int, chunk_ns: int) -> int:
    """Return nanoseconds of makespan - ideal, where ideal is m v (f + b): every rank busy.

    GPipe, 1F1B, interleaved and combined 1F1B, looped BFS:  (p - 1) (f + b)
    interleaved zero bubble, ZB-V, with f = i = w:  (p - 1) f
    DualPipeV, with f = i = w and slots that take f + b:  2 (p - 1) f

    Measure: makespan. Domain: what `legal.refusal` takes; looped BFS from m = p on; zero bubble
    where p divides m; ZB-V from m = 2 p on. Where f, i and w differ: `split_bubble_ns`.
    Rounded down where 3 does not divide f + b.
    """
    return _idle_parts(kind, pp=pp) * chunk_ns // EQUAL_PARTS


def split_bubble_ns(*, pp: int, forward_ns: int, input_grad_ns: int, weight_grad_ns: int) -> int:
    """Return the makespan bubble of interleaved zero bubble: (p - 1) (f + i - w).

    Domain: w at most f and at most i, p divides m. Source: found by simulation.
    """
    return (pp - 1) * (forward_ns + input_grad_ns - weight_grad_ns)


def bubble_fraction(kind: ScheduleKind, *, pp: int, vpp: int, num_microbatches: int) -> float:
    """Return (makespan - ideal) / makespan, the share of the step that a rank idles.

    (p - 1) / (m v + p - 1) where backwards are whole. GPipe and the zero-bubble papers quote
    this share. Split backwards as in `bubble_ns`, f = i = w.
    """
    idle = _idle_parts(kind, pp=pp)
    return idle / (EQUAL_PARTS * num_microbatches * vpp + idle)


def bubble_overhead(kind: ScheduleKind, *, pp: int, vpp: int, num_microbatches: int) -> float:
    """Return (makespan - ideal) / ideal, what idling adds to the work.

    (p - 1) / (m v) where backwards are whole. The Megatron and Llama papers quote this ratio.
    """
    return _idle_parts(kind, pp=pp) / (EQUAL_PARTS * num_microbatches * vpp)


def latency_hops(kind: ScheduleKind, *, pp: int, vpp: int, num_microbatches: int) -> int | None:
    """Return how many latencies of one hop lie on the critical path: makespan grows by c x this.

    GPipe, any c:  2 (p - 1)
    1F1B, any c, with q, s = divmod(m - 1, p):  2 (p - 1) (q + 1) + 2 max(0, s - 1)
    interleaved, g = p, p divides m, c at most min(f, b):  2 (p v - 1)
    other schedules:  None, simulate

    Source: found by simulation, and equal to it in every case of the tests; not from a paper.
    Ignored: groups larger than p hide all but about 2 (p - 1) hops; time on the wire.
    """
    match kind:
        case ScheduleKind.NO_PIPELINE:
            return 0
        case ScheduleKind.GPIPE:
            return 2 * (pp - 1)
        case ScheduleKind.ONE_F_ONE_B:
            rounds, rest = divmod(num_microbatches - 1, pp)
            return 2 * (pp - 1) * (rounds + 1) + 2 * max(0, rest - 1)
        case ScheduleKind.INTERLEAVED:
            return 2 * (pp * vpp - 1)
        case (
            ScheduleKind.COMBINED
            | ScheduleKind.LOOPED_BFS
            | ScheduleKind.ZERO_BUBBLE
            | ScheduleKind.ZB_V
            | ScheduleKind.DUAL_PIPE_V
        ):
            return None
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
    interleaved:  min(W + 1, m v), W = 2 (p - r - 1) + (v - 1) g
    combined:  min(W + 2, m v)
    GPipe, looped BFS:  m v
    interleaved zero bubble:  p v where p divides m
    ZB-V:  2 p from m = 2 p on;  DualPipeV:  2 p + 1

    A chunk counts from the start of its forward to the end of its backward, of a split one to
    the end of its weight gradient. Exact for any durations, as it follows from the order
    alone; where no formula holds the order is counted.
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
        case ScheduleKind.COMBINED:
            warmup = combined.warmup_forwards(
                pp=pp,
                vpp=vpp,
                num_microbatches=num_microbatches,
                microbatch_group_size=microbatch_group_size,
                rank=rank,
            )
        case ScheduleKind.GPIPE | ScheduleKind.LOOPED_BFS:
            return num_microbatches * vpp
        case ScheduleKind.ZERO_BUBBLE | ScheduleKind.ZB_V | ScheduleKind.DUAL_PIPE_V:
            # Steady from a few rounds on: more microbatches than that change no peak.
            size = max(pp, microbatch_group_size)
            few = min(num_microbatches, 4 * size + num_microbatches % size)
            return _counted(kind, pp, vpp, few, microbatch_group_size)[rank]
        case _:
            assert_never(kind)
    return min(warmup + 1, num_microbatches * vpp)


@lru_cache(maxsize=1024)
def _counted(kind: ScheduleKind, pp: int, vpp: int, m: int, g: int) -> tuple[int, ...]:
    return memory.peaks_in_flight(
        schedule.arranged(kind, pp=pp, vpp=vpp, num_microbatches=m, microbatch_group_size=g)
    )


def _idle_parts(kind: ScheduleKind, *, pp: int) -> int:
    """Return the makespan bubble in thirds of f + b of one chunk."""
    match kind:
        case ScheduleKind.NO_PIPELINE:
            return 0
        case (
            ScheduleKind.ONE_F_ONE_B
            | ScheduleKind.INTERLEAVED
            | ScheduleKind.GPIPE
            | ScheduleKind.COMBINED
            | ScheduleKind.LOOPED_BFS
        ):
            return EQUAL_PARTS * (pp - 1)
        case ScheduleKind.ZERO_BUBBLE | ScheduleKind.ZB_V:
            return pp - 1
        case ScheduleKind.DUAL_PIPE_V:
            return 2 * (pp - 1)
        case _:
            assert_never(kind)
