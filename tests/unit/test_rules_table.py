"""The table of rules: each row has a run file that breaks it, and what it suggests passes."""

import importlib.util
from pathlib import Path

import pytest

from orchestrator.rules.page import page
from orchestrator.rules.rule import OURS, Breach, Rule, Severity
from orchestrator.rules.table import RULES, problem_of
from tests.unit.broken_runs import CASES, Case, applied, found

BY_ID = {rule.id: rule for rule in RULES}
IDS = [f"{case.rule}-{number}" for number, case in enumerate(CASES)]

INSTALLED = ("megatron-core 0.16.1", "deepspeed 0.19.8")
WITHOUT_CHANGE = {"engine-model", "recompute-modules"}
"""Rules whose remedy is no value of a key: another model, another spelling."""


def identity(breach: Breach) -> tuple[str, object]:
    """Return which of several breaches of a rule it is."""
    return breach.key, breach.said.get("layer")


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_a_broken_run_file_breaks_its_rule_and_what_is_suggested_mends_it(case: Case):
    broken = [breach for rule, breach in found(case.document, case.engine) if rule == case.rule]

    assert broken
    for breach in broken:
        assert breach.passing or case.rule in WITHOUT_CHANGE or breach.advice
        for change in breach.passing:
            after = found(applied(case.document, change), case.engine)
            left = {identity(other) for rule, other in after if rule == case.rule}
            assert identity(breach) not in left, change


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_a_message_has_its_numbers_and_fits_a_page(case: Case):
    rule = BY_ID[case.rule]
    broken = [breach for name, breach in found(case.document, case.engine) if name == case.rule]

    for breach in broken:
        problem = problem_of(rule, breach)
        assert "{" not in problem.message
        assert problem.key
        assert problem.possible
        assert "possible: ;" not in problem.possible


def test_every_rule_has_a_broken_run_file():
    assert {case.rule for case in CASES} == set(BY_ID)


def test_most_rules_suggest_values():
    assert {rule.id for rule in RULES} - WITHOUT_CHANGE <= {
        case.rule
        for case in CASES
        for name, breach in found(case.document, case.engine)
        if name == case.rule and breach.passing
    }


def test_the_columns_of_the_table_are_filled_and_names_are_unique():
    assert len(BY_ID) == len(RULES)
    for rule in RULES:
        assert rule.condition
        assert rule.message
        assert str(rule.source)
        assert rule.since
        assert rule.families


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_source_stands_where_the_rule_says(rule: Rule):
    document, line, words = rule.source.document, rule.source.line, rule.source.words
    if document.startswith(OURS):
        assert line is None
        return
    assert words
    if not document.startswith(INSTALLED):
        return
    path = document.split(" ")[2]
    package = importlib.util.find_spec(path.split("/")[0])
    assert package is not None
    assert package.submodule_search_locations
    root = Path(next(iter(package.submodule_search_locations))).parent
    lines = (root / path).read_text(encoding="utf-8").splitlines()

    assert words in lines[(line or 0) - 1]


def test_the_page_of_rules_is_the_one_that_is_committed(root: Path):
    committed = (root / "docs" / "rules.md").read_text(encoding="utf-8")

    assert committed == page(), "make it anew: make rules"
    assert all(f"`{rule.id}`" in committed for rule in RULES)


def test_the_traps_are_warnings():
    traps = {rule.id for rule in RULES if rule.severity is Severity.WARNING}

    assert traps >= {
        *("fp8-experts", "fp8-block-widths", "rampup-ignored", "async-save-worker"),
        *("recompute-saves-nothing", "tp-beyond-fast-links", "etp-left-out", "padded-vocabulary"),
    }
