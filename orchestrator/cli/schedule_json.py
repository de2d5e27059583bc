"""What `llmorch schedule --json` prints."""

from collections.abc import Mapping
from typing import Any

from orchestrator.cli.schedule_balance import BalanceReport
from orchestrator.cli.schedule_cases import RunCase
from orchestrator.cli.schedule_report import ScheduleReport, runners_asked
from orchestrator.schedules import memory, stages

SCHEMA = 1
_MOST_RELEASES = 100_000


def document_of(
    report: ScheduleReport, *, files: Mapping[str, str], balance: BalanceReport | None
) -> dict[str, Any]:
    """Return the report for scripts; keys are added, never renamed or removed."""
    schedule, bubble = report.case.schedule, report.bubble
    runners = runners_asked(schedule)
    return {
        "schema": SCHEMA,
        "kind": schedule.kind.value,
        "pp": schedule.pp,
        "vpp": schedule.vpp,
        "num_microbatches": schedule.num_microbatches,
        "microbatch_group_size": schedule.microbatch_group_size,
        "engines": {engine.value: word for engine, word in runners.switches.items()},
        "engines_refusing": {
            engine.value: refused.reason for engine, refused in runners.refusals.items()
        },
        "makespan_ns": bubble.makespan_ns,
        "parts_ns": {
            "ideal": float(bubble.ideal_ns),
            "order": float(bubble.order_ns),
            "imbalance": float(bubble.imbalance_ns),
            "latency": bubble.latency_ns,
        },
        "bubble": {
            "makespan_ns": float(bubble.makespan_bubble_ns),
            "makespan_fraction": float(bubble.fraction),
            "makespan_overhead": float(bubble.overhead),
            "span_ns": float(bubble.span_bubble_ns),
            "idle_ns": list(bubble.idle_ns),
        },
        "peak_in_flight": list(report.peaks_in_flight),
        "peak_activation_bytes": None if report.peaks_bytes is None else list(report.peaks_bytes),
        "releases": _releases(report),
        "memory": None if report.case.run is None else _fit_document(report.case.run),
        "balance": None if balance is None else _balance_document(balance),
        "files": dict(files),
    }


def _releases(report: ScheduleReport) -> list[list[dict[str, Any]]] | None:
    """Return by rank where memory becomes free; None where that would be a book.

    Released are bytes where the case has memory, else activations of chunks.
    """
    schedule, held_by = report.case.schedule, report.case.memory
    if schedule.num_actions > _MOST_RELEASES:
        return None
    counted = held_by or memory.StageMemory.counted(schedule.num_stages)
    unit = "activations" if held_by is None else "bytes"
    return [
        [
            {
                "slot": point.slot,
                "step": str(point.step),
                "time_ns": int(report.timeline.ends_ns[rank][point.slot]),
                unit: point.released_bytes,
            }
            for point in memory.releases(schedule, rank, counted)
        ]
        for rank in range(schedule.pp)
    ]


def _fit_document(run: RunCase) -> dict[str, Any]:
    return {
        "needed_bytes": round(run.needed_bytes),
        "accelerator_bytes": round(run.accelerator_bytes),
        "fits": run.fits,
    }


def _balance_document(found: BalanceReport) -> dict[str, Any]:
    best = found.balance
    return {
        "stage_layout": stages.text_of(best.layout),
        "makespan_ns": best.makespan_ns,
        "own_makespan_ns": found.own_ns,
        "bound_ns": best.bound_ns,
        "proven": best.is_proven,
        "simulated": best.simulated,
    }
