"""What `llmorch schedule` answers: the picture, the bubble by each measure, what ranks hold."""

from dataclasses import dataclass
from fractions import Fraction

from orchestrator.cli.schedule_balance import BalanceReport
from orchestrator.cli.schedule_cases import ScheduleCase
from orchestrator.errors import UsageError
from orchestrator.schedules import memory, stages
from orchestrator.schedules.bubbles import BubbleReport, bubble_report
from orchestrator.schedules.draw import beginning, grid, outline
from orchestrator.schedules.runners import Runners, runners_of
from orchestrator.schedules.schedule import Schedule
from orchestrator.schedules.simulate import Deadlock, Timeline, simulate
from orchestrator.specs.choices import ScheduleKind
from orchestrator.units import gib, text_of_bytes

_NS_PER_MS = 1_000_000
_SHOWN_RANKS = 16
_DRAWN_RANKS = 64
_MOST_DRAWN = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleReport:
    """A simulated schedule."""

    case: ScheduleCase
    timeline: Timeline
    bubble: BubbleReport
    peaks_in_flight: tuple[int, ...]
    peaks_bytes: tuple[int, ...] | None


def report_of(case: ScheduleCase) -> ScheduleReport:
    """Return the simulation of a case.

    Raises:
        UsageError: the ranks wait for each other; the circle is named.
    """
    answer = simulate(case.schedule, times=case.times)
    if isinstance(answer, Deadlock):
        raise UsageError(problem=f"the ranks wait for each other for ever: {answer}")
    held_by = case.memory
    return ScheduleReport(
        case=case,
        timeline=answer,
        bubble=bubble_report(answer, times=case.times),
        peaks_in_flight=memory.peaks_in_flight(case.schedule),
        peaks_bytes=None if held_by is None else memory.peak_bytes(case.schedule, held_by),
    )


def text_of(report: ScheduleReport, *, balance: BalanceReport | None) -> str:
    """Return the report for people."""
    return "\n".join(
        (
            _headline(report.case),
            *_run_by(report.case.schedule),
            "",
            _picture(report.timeline),
            "",
            *_bubble_lines(report.bubble),
            *_memory_lines(report),
            *(_balance_lines(balance) if balance else ()),
        )
    )


def _picture(timeline: Timeline) -> str:
    """Return the whole picture where it fits, else its beginning, else an outline."""
    schedule = timeline.schedule
    if schedule.pp > _DRAWN_RANKS:
        return f"({schedule.pp} ranks are too many for text: see --trace FILE)"
    picture = None
    if schedule.num_actions <= _MOST_DRAWN:
        whole = grid(timeline)
        if whole is not None:
            return whole
        picture = beginning(timeline)
    rest = "(too wide for text: all of it with --svg FILE or --trace FILE)"
    return f"{picture or outline(timeline)}\n{rest}"


def _headline(case: ScheduleCase) -> str:
    schedule = case.schedule
    sizes = f"{schedule.pp} ranks, {schedule.num_microbatches} microbatches"
    if schedule.vpp > 1:
        sizes = f"{schedule.pp} ranks x {schedule.vpp} chunks, "
        sizes += f"{schedule.num_microbatches} microbatches"
    if schedule.kind in {ScheduleKind.INTERLEAVED, ScheduleKind.COMBINED}:
        sizes += f" in groups of {schedule.microbatch_group_size}"
    return f"{case.title}: {sizes}"


def runners_asked(schedule: Schedule) -> Runners:
    """Return which engines run a schedule's own numbers."""
    return runners_of(
        schedule.kind,
        pp=schedule.pp,
        vpp=schedule.vpp,
        num_microbatches=schedule.num_microbatches,
        microbatch_group_size=schedule.microbatch_group_size,
    )


def _run_by(schedule: Schedule) -> tuple[str, ...]:
    """Return the engines that run the schedule, and a line for each that refuses its numbers."""
    runners = runners_asked(schedule)
    return (
        "run by " + "; ".join(f"{engine} ({word})" for engine, word in runners.switches.items()),
        *(f"not run by {engine}: {refused.reason}" for engine, refused in runners.refusals.items()),
    )


def _bubble_lines(bubble: BubbleReport) -> list[str]:
    idle = bubble.idle_ns
    parts = (
        f"work {_ms(bubble.ideal_ns)} + order {_ms(bubble.order_ns)} + uneven stages "
        f"{_ms(bubble.imbalance_ns)} + latency {_ms(bubble.latency_ns)}"
    )
    shares = f"{float(bubble.fraction):.1%} of the step, {float(bubble.overhead):.1%} over the work"
    return [
        f"step      {_ms(bubble.makespan_ns)} = {parts}",
        f"bubble    by makespan {_ms(bubble.makespan_bubble_ns)}: {shares}",
        f"          by span {_ms(bubble.span_bubble_ns)} (a rank's own first start to last end)",
        f"          idle by rank {_ms(min(idle))} to {_ms(max(idle))}",
    ]


def _memory_lines(report: ScheduleReport) -> list[str]:
    peaks = report.peaks_in_flight
    shown = " ".join(map(str, peaks[:_SHOWN_RANKS]))
    rest = " ..." if len(peaks) > _SHOWN_RANKS else ""
    unit = "chunks" if report.case.schedule.vpp > 1 else "stages"
    lines = [f"memory    peak activations held, {unit} by rank: {shown}{rest}"]
    if report.peaks_bytes is not None:
        most = max(report.peaks_bytes)
        rank = report.peaks_bytes.index(most)
        lines.append(f"          {text_of_bytes(most)} (modelled) on rank {rank}, the fullest")
    run = report.case.run
    if run is not None and not run.fits:
        lines.append(
            f"          does not fit: the fullest rank needs {gib(run.needed_bytes):.1f} GiB "
            f"(modelled), an accelerator has {gib(run.accelerator_bytes):.1f} GiB"
        )
    return lines


def _balance_lines(found: BalanceReport) -> list[str]:
    best = found.balance
    gain = 1 - best.makespan_ns / found.own_ns
    proof = f"proven shortest, {best.simulated:,} layouts simulated"
    if not best.is_proven:
        most = best.makespan_ns / best.bound_ns - 1
        proof = f"best of {best.simulated:,} simulated, at most {most:.1%} above the shortest"
    return [
        f"balance   {_ms(best.makespan_ns)}, {gain:.1%} shorter (modelled): {proof}",
        f"          stage_layout: '{stages.text_of(best.layout)}'",
    ]


def _ms(time_ns: int | Fraction) -> str:
    return f"{float(time_ns) / _NS_PER_MS:,.3f} ms"
