"""The planner's door: every candidate examined, the best ones priced in full, and why."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from orchestrator.cost.quote import price
from orchestrator.cost.step import costs_of
from orchestrator.cost.workload import Workload, workload_of
from orchestrator.errors import NoPlanFits
from orchestrator.planner.explain import explanation
from orchestrator.planner.prune import Tally, TooLarge, breach_of, fitted
from orchestrator.planner.space import candidates, longer_context_degrees
from orchestrator.records.calibration import Calibration
from orchestrator.records.engine import EngineCapabilities
from orchestrator.records.layout import Layout
from orchestrator.records.plan import CostParts, PlanReport
from orchestrator.records.run import ResolvedRun
from orchestrator.specs.choices import RecomputeGranularity
from orchestrator.units import text_of_bytes

Progress = Callable[[int, int], None]
"""Called with how many candidates are done, and of how many."""

PROGRESS_INTERVAL = 200

TIE_DIGITS = 3
"""Step times that agree to a thousandth of the best are a tie: below what the model can tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A layout that fits, with the parts of its step."""

    layout: Layout
    cost: CostParts


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What examining candidates gave."""

    entries: tuple[Entry, ...]
    tally: Tally
    evaluated: int


def plan(
    run: ResolvedRun,
    *,
    capabilities: EngineCapabilities,
    keep: int = 10,
    progress: Progress | None = None,
    calibration: Calibration | None = None,
) -> PlanReport:
    """Return the best layouts for a run by modelled step time, and why the others fell out.

    The run's own layout is not read. Ties go to fewer model-parallel ranks, then to the simpler.

    Raises:
        NoPlanFits: nothing passes the rules and fits; the reasons say what would have to change.
    """
    workload = workload_of(run, calibration=calibration)
    layouts = candidates(run, capabilities=capabilities)
    search = _examined(run, workload, layouts, capabilities=capabilities, progress=progress)
    if not search.entries:
        longer = longer_context_degrees(run, capabilities)
        more = candidates(run, capabilities=capabilities, cps=longer) if longer else ()
        search = _examined(
            run, workload, (*layouts, *more), capabilities=capabilities, progress=progress
        )
    if not search.entries:
        raise _nothing_fits(run, workload, search)
    ranked = _ranked(search.entries)
    rejected = search.tally.rejections(workload, fitting=tuple(entry.layout for entry in ranked))
    plans = tuple(price(run, entry.layout, calibration=calibration) for entry in ranked[:keep])
    return PlanReport(
        plans=plans,
        rejected=rejected,
        evaluated=search.evaluated,
        explanation=explanation(plans[0], [(entry.layout, entry.cost) for entry in ranked]),
    )


def _examined(
    run: ResolvedRun,
    workload: Workload,
    layouts: Sequence[Layout],
    *,
    capabilities: EngineCapabilities,
    progress: Progress | None,
) -> Search:
    fitting: list[Layout] = []
    tally = Tally()
    for number, layout in enumerate(layouts):
        if progress is not None and number % PROGRESS_INTERVAL == 0:
            progress(number, len(layouts))
        problem = breach_of(run, layout, capabilities=capabilities)
        if problem is not None:
            tally.broke(layout, problem)
            continue
        memory = fitted(workload, layout)
        if isinstance(memory, TooLarge):
            tally.outgrew(memory)
            continue
        fitting.append(layout)
    if progress is not None:
        progress(len(layouts), len(layouts))
    priced = zip(fitting, costs_of(workload, fitting), strict=True)
    entries = tuple(Entry(layout=layout, cost=cost) for layout, cost in priced)
    return Search(entries=entries, tally=tally, evaluated=len(layouts))


def _ranked(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    best_s = min(entry.cost.total_s for entry in entries)

    def key(entry: Entry) -> tuple[float, int, int, float]:
        layout, step_s = entry.layout, entry.cost.total_s
        rounded = round(step_s / best_s, TIE_DIGITS)
        return rounded, layout.model_parallel_size, _switches(layout), step_s

    return tuple(sorted(entries, key=key))


def _switches(layout: Layout) -> int:
    """Return how many things a layout does that a simpler one does not."""
    return sum(
        (
            layout.vpp > 1,
            layout.cp > 1,
            layout.stage_layout is not None,
            layout.recompute.granularity is not RecomputeGranularity.NONE,
        )
    )


def _nothing_fits(run: ResolvedRun, workload: Workload, search: Search) -> NoPlanFits:
    machine = run.machine
    rejections = search.tally.rejections(workload, fitting=())
    reasons = [
        f"{one.rule}: {one.count} of {search.evaluated} layouts; {one.example}"
        for one in rejections
    ]
    return NoPlanFits(
        what=f"{run.model.name} on {machine.world_size} x {machine.accelerator.name}",
        reasons=reasons or ["no layout divides over these ranks"],
        instead=_instead(run, workload, search),
    )


def _instead(run: ResolvedRun, workload: Workload, search: Search) -> str:
    """Return what would have to change: the leanest layout's lack, or the first rule's hint."""
    leanest = search.tally.leanest
    if leanest is not None:
        ratio = leanest.needed_bytes / workload.chip.memory_bytes
        hosts = math.ceil(run.machine.hosts * ratio)
        return (
            f"the leanest layout needs {ratio:.2g} x the memory: try {hosts} hosts or more, "
            f"accelerators with {text_of_bytes(leanest.needed_bytes)}, a shorter sequence "
            "or a smaller model"
        )
    hints = [one.smallest_change for one in search.tally.rejections(workload, fitting=())]
    return next((hint for hint in hints if hint), "")
