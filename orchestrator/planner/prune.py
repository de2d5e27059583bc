"""Which candidates fall out, and by what: the table of rules first, then memory.

Cheap questions come first: rules are integer arithmetic, the states of the fullest rank bound
its memory from below, and only what is left has its activations counted.
"""

from dataclasses import dataclass, field

from orchestrator.cost.memory import memory_of, states_floor_bytes
from orchestrator.cost.workload import Workload
from orchestrator.planner.words import recompute_words, words_of
from orchestrator.records.engine import EngineCapabilities
from orchestrator.records.layout import Layout
from orchestrator.records.plan import MemoryParts, Rejection
from orchestrator.records.run import ResolvedRun
from orchestrator.rules.table import Broken, first_broken
from orchestrator.units import text_of_bytes

MEMORY_RULE = "memory"


@dataclass(frozen=True, slots=True, kw_only=True)
class TooLarge:
    """A layout that does not fit: at least this many bytes on its fullest rank."""

    layout: Layout
    needed_bytes: float


def breach_of(
    run: ResolvedRun, layout: Layout, *, capabilities: EngineCapabilities
) -> Broken | None:
    """Return the first rule that a layout breaks."""
    return first_broken(run, layout, capabilities=capabilities)


def fitted(workload: Workload, layout: Layout) -> MemoryParts | TooLarge:
    """Return a layout's memory, or that it needs more than an accelerator has."""
    floor = states_floor_bytes(workload, layout)
    if floor > workload.chip.memory_bytes:
        return TooLarge(layout=layout, needed_bytes=floor)
    memory = memory_of(workload, layout)
    if memory.total_bytes > workload.chip.memory_bytes:
        return TooLarge(layout=layout, needed_bytes=memory.total_bytes)
    return memory


@dataclass(slots=True, kw_only=True)
class Tally:
    """Counts what fell out, rule by rule, with the example that came closest."""

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, tuple[Layout, Broken]] = field(default_factory=dict)
    leanest: TooLarge | None = None

    def broke(self, layout: Layout, broken: Broken) -> None:
        """Note a layout that breaks a rule; the first one is the example."""
        rule = broken.rule.id
        self.counts[rule] = self.counts.get(rule, 0) + 1
        self.examples.setdefault(rule, (layout, broken))

    def outgrew(self, too_large: TooLarge) -> None:
        """Note a layout that does not fit; the one that needs least is the example."""
        self.counts[MEMORY_RULE] = self.counts.get(MEMORY_RULE, 0) + 1
        if self.leanest is None or too_large.needed_bytes < self.leanest.needed_bytes:
            self.leanest = too_large

    def rejections(
        self, workload: Workload, *, fitting: tuple[Layout, ...]
    ) -> tuple[Rejection, ...]:
        """Return what fell out, most frequent first; `fitting` are layouts that passed."""
        ordered = sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))
        return tuple(
            self._memory_rejection(workload, count, fitting=fitting)
            if rule == MEMORY_RULE
            else self._rule_rejection(rule, count)
            for rule, count in ordered
        )

    def _rule_rejection(self, rule: str, count: int) -> Rejection:
        layout, broken = self.examples[rule]
        problem = broken.problem()
        return Rejection(
            rule=rule,
            count=count,
            example=f"{words_of(layout)}: {problem.message}",
            smallest_change=problem.possible,
        )

    def _memory_rejection(
        self, workload: Workload, count: int, *, fitting: tuple[Layout, ...]
    ) -> Rejection:
        leanest = self.leanest
        if leanest is None:
            return Rejection(rule=MEMORY_RULE, count=count, example="")
        have_bytes = workload.chip.memory_bytes
        over = text_of_bytes(leanest.needed_bytes - have_bytes)
        return Rejection(
            rule=MEMORY_RULE,
            count=count,
            example=f"{words_of(leanest.layout)}: its fullest rank needs {over} more than the "
            f"{text_of_bytes(have_bytes)} of an accelerator",
            smallest_change=_nearest_change(leanest.layout, fitting),
        )


def _nearest_change(layout: Layout, fitting: tuple[Layout, ...]) -> str:
    """Return what to change so that a layout fits: the difference to the nearest that does."""
    if not fitting:
        return ""
    changes = min((_changes(layout, other) for other in fitting), key=lambda one: (len(one), one))
    return "use " + ", ".join(changes)


def _changes(layout: Layout, other: Layout) -> tuple[str, ...]:
    axes = ("tp", "cp", "pp", "vpp", "ep", "etp", "micro_batch_size", "zero_stage")
    found = [
        f"{axis} {getattr(other, axis)}"
        for axis in axes
        if getattr(layout, axis) != getattr(other, axis)
    ]
    if layout.recompute != other.recompute:
        found.append(recompute_words(other.recompute))
    return tuple(found)
