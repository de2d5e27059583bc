"""The shape of a rule: what must hold, who says so, and how it is examined."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from orchestrator.errors import Problem
from orchestrator.records.engine import EngineCapabilities
from orchestrator.records.layout import Layout
from orchestrator.records.run import ResolvedRun


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What rules examine: a run in a layout, on an engine when one is named."""

    run: ResolvedRun
    layout: Layout
    engine: EngineCapabilities | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One row of the table.

    `condition` is what must hold, in words; `source` is who refuses otherwise; `since` is the
    first engine version it is known of. `check` yields a problem for each breach.
    """

    id: str
    condition: str
    source: str
    since: str
    check: Callable[[Subject], Iterator[Problem]]


def divisors(number: int) -> tuple[int, ...]:
    """Return the divisors of a positive number, ascending."""
    low = [d for d in range(1, int(number**0.5) + 1) if number % d == 0]
    return tuple(sorted({*low, *(number // d for d in low)}))


def possible(values: tuple[int, ...], *, near: int, most: int = 3) -> str:
    """Return a hint naming the few values nearest to the one given."""
    chosen = sorted(sorted(values, key=lambda value: (abs(value - near), value))[:most])
    return f"possible: {', '.join(str(value) for value in chosen)}" if chosen else ""
