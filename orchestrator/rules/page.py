"""The page that lists every rule: what docs/rules.md holds, made from the table."""

from collections.abc import Iterator

from orchestrator.records.engine import EngineFamily
from orchestrator.rules.rule import MEGATRON, Rule, Severity
from orchestrator.rules.table import GROUPS, RULES

_INTRODUCTION = """\
<!-- Made from orchestrator/rules by `make rules`; a test holds the two together. -->
# The rules

What `llmorch validate` examines, and what `llmorch plan` prunes by (errors alone): {errors} errors
and {warnings} warnings. Each is one row of the table in `orchestrator/rules`, and each says what
was given, the numbers compared, and values that would pass; a test puts those into the file and
examines it again. `--json` names the rule (`rule`), the field (`key`), the `message`, what is
`possible`, and the `source`.

A warning is of what runs and yet ends worse than somebody may expect; it does not change the exit
code. *Since* is the first release of Megatron or DeepSpeed whose sources ask it (0.9 is the oldest
that was looked at); an engine of another family or of an earlier release is not examined by it.
Sources are files of megatron-core 0.16.1, Megatron-LM (at a tag), DeepSpeed 0.19.8 and Transformer
Engine 2.9, with the line; *llmorch* means that no engine asks it, and why we do.

Beside these there are: the shape of the file (keys, types, ranges; `llmorch schema`), names of
cards and engines, `whole-hosts` (GPUs are whole hosts of the cluster), `memory` (the fullest rank
fits, modelled), and `engine-render` (what an engine says when it is asked for its files).
"""


def page() -> str:
    """Return the page in Markdown, one trailing newline."""
    counts = {kind: sum(rule.severity is kind for rule in RULES) for kind in Severity}
    head = _INTRODUCTION.format(errors=counts[Severity.ERROR], warnings=counts[Severity.WARNING])
    return "\n".join([head, *(line for title, rules in GROUPS for line in _group(title, rules))])


def _group(title: str, rules: tuple[Rule, ...]) -> Iterator[str]:
    yield f"## {title}\n"
    yield "| rule | what must hold | what is said otherwise | since | source |"
    yield "|---|---|---|---|---|"
    for rule in rules:
        cells = (_name(rule), rule.condition, f"*{rule.message}*", _since(rule), str(rule.source))
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
    yield ""


def _name(rule: Rule) -> str:
    mark = " (warning)" if rule.severity is Severity.WARNING else ""
    return f"`{rule.id}`{mark}"


def _since(rule: Rule) -> str:
    if rule.families == frozenset(EngineFamily):
        return "any" if rule.since == "any" else f"Megatron {rule.since}"
    family = "Megatron" if rule.families == MEGATRON else "DeepSpeed"
    return f"{family} {rule.since}" if rule.since != "any" else f"{family}, any"
