"""The one table of rules, and what it says of a layout."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from orchestrator.errors import Problem
from orchestrator.records.engine import EngineCapabilities, EngineFamily, release
from orchestrator.records.layout import Layout
from orchestrator.records.run import ResolvedRun
from orchestrator.rules import (
    arguments,
    batch,
    deepspeed,
    engine,
    environment,
    experts,
    model,
    numerics,
    overlap,
    pipeline,
    precision,
    recompute,
    sequence,
    world,
)
from orchestrator.rules.change import hint
from orchestrator.rules.rule import Breach, Rule, Severity, Subject

GROUPS: tuple[tuple[str, tuple[Rule, ...]], ...] = (
    ("World", world.RULES),
    ("Model", model.RULES),
    ("Experts", experts.RULES),
    ("Sequence", sequence.RULES),
    ("Pipeline", pipeline.RULES),
    ("Overlap", overlap.RULES),
    ("Batch and learning rate", batch.RULES),
    ("Precision", precision.RULES),
    ("Number formats", numerics.RULES),
    ("Recomputation", recompute.RULES),
    ("Environment", environment.RULES),
    ("Engine", engine.RULES),
    ("DeepSpeed", deepspeed.RULES),
    ("Options of the engine", arguments.RULES),
)
"""Rules by what they are about, in the order in which they are examined."""

RULES: tuple[Rule, ...] = tuple(rule for _, rules in GROUPS for rule in rules)


def violations(
    run: ResolvedRun, layout: Layout, *, capabilities: EngineCapabilities | None = None
) -> tuple[Problem, ...]:
    """Return every breach of every rule, in the order of the table, without the warnings.

    Rules on what an engine says of itself are silent where no capabilities are given; there, a
    Megatron of any version is assumed.
    """
    found = breaches(run, layout, capabilities=capabilities, severity=Severity.ERROR)
    return tuple(problem_of(rule, breach) for rule, breach in found)


def warnings(
    run: ResolvedRun, layout: Layout, *, capabilities: EngineCapabilities | None = None
) -> tuple[Problem, ...]:
    """Return what is allowed and yet ends worse than somebody may expect."""
    found = breaches(run, layout, capabilities=capabilities, severity=Severity.WARNING)
    return tuple(problem_of(rule, breach) for rule, breach in found)


def first_violation(
    run: ResolvedRun, layout: Layout, *, capabilities: EngineCapabilities | None = None
) -> Problem | None:
    """Return the first breach, None where every rule holds."""
    found = first_broken(run, layout, capabilities=capabilities)
    return None if found is None else found.problem()


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """A rule that a layout breaks; how it does is worked out when it is asked for."""

    rule: Rule
    subject: Subject

    def problem(self) -> Problem:
        """Return the first breach of the rule."""
        return problem_of(self.rule, self.rule.check(self.subject)[0])


def first_broken(
    run: ResolvedRun, layout: Layout, *, capabilities: EngineCapabilities | None = None
) -> Broken | None:
    """Return the first broken rule, for a search that mostly needs to know that there is one."""
    subject = Subject(run=run, layout=layout, engine=capabilities)
    for rule in _rules_of(subject, Severity.ERROR):
        if rule.is_broken(subject) if rule.is_broken else rule.check(subject):
            return Broken(rule=rule, subject=subject)
    return None


def breaches(
    run: ResolvedRun,
    layout: Layout,
    *,
    capabilities: EngineCapabilities | None,
    severity: Severity,
) -> Iterator[tuple[Rule, Breach]]:
    """Give each breach of the rules of a severity with its rule, in the order of the table."""
    subject = Subject(run=run, layout=layout, engine=capabilities)
    for rule in _rules_of(subject, severity):
        for breach in rule.check(subject):
            yield rule, breach


def problem_of(rule: Rule, breach: Breach) -> Problem:
    """Return a breach as users see it."""
    return Problem(
        key=breach.key,
        message=rule.message.format(**breach.said),
        possible=hint(breach.key, breach.passing, breach.advice),
        rule=rule.id,
    )


def source_of(rule_id: str) -> str:
    """Return who asks for a rule, "" where the problem is of no rule of the table."""
    return next((str(rule.source) for rule in RULES if rule.id == rule_id), "")


def _rules_of(subject: Subject, severity: Severity) -> tuple[Rule, ...]:
    """Return the rules to examine; those on options are left out where there are none."""
    groups = GROUPS if subject.run.spec.engine.arguments else GROUPS[:-1]
    return _rules_for(subject.family, subject.version, severity, len(groups))


@lru_cache(maxsize=128)
def _rules_for(
    family: EngineFamily, version: str, severity: Severity, num_groups: int
) -> tuple[Rule, ...]:
    """Return the rules that an engine of that version knows; "any" knows all of its family."""
    return tuple(
        rule
        for _, rules in GROUPS[:num_groups]
        for rule in rules
        if rule.severity is severity
        and family in rule.families
        and ("any" in {version, rule.since} or release(version) >= release(rule.since))
    )
