"""The one table of rules, and what it says of a layout."""

from orchestrator.errors import Problem
from orchestrator.records.engine import EngineCapabilities
from orchestrator.records.layout import Layout
from orchestrator.records.run import ResolvedRun
from orchestrator.rules import batch, engine, model, pipeline, world
from orchestrator.rules.rule import Rule, Subject

RULES: tuple[Rule, ...] = (
    *world.RULES,
    *model.RULES,
    *pipeline.RULES,
    *batch.RULES,
    *engine.RULES,
)


def violations(
    run: ResolvedRun, layout: Layout, *, capabilities: EngineCapabilities | None = None
) -> tuple[Problem, ...]:
    """Return every breach of every rule, in the order of the table.

    Rules on an engine are silent where no capabilities are given.
    """
    subject = Subject(run=run, layout=layout, engine=capabilities)
    return tuple(problem for rule in RULES for problem in rule.check(subject))


def first_violation(
    run: ResolvedRun, layout: Layout, *, capabilities: EngineCapabilities | None = None
) -> Problem | None:
    """Return the first breach, for a search that only needs to know that there is one."""
    subject = Subject(run=run, layout=layout, engine=capabilities)
    for rule in RULES:
        for problem in rule.check(subject):
            return problem
    return None
