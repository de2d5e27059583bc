"""What engines answered, for people and for scripts."""

from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.cli.engine_check import EngineAnswer, Finding


def answers_picture(answers: Sequence[EngineAnswer]) -> RenderableType:
    """Return a table of what was asked of which engine, and what was not."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("engine", "asked without a GPU", "answer"):
        table.add_column(column)
    table.add_column("s", justify="right")
    for answer in answers:
        name = f"{answer.engine} {answer.version}"
        for finding in answer.findings:
            table.add_row(name, finding.asked, _verdict(finding), f"{finding.seconds:.1f}")
            name = ""
    unasked = [f"not asked of {one.engine}: {text}" for one in answers for text in one.unasked]
    return Group(table, *(Text(text) for text in unasked))


def answers_document(answers: Sequence[EngineAnswer]) -> list[dict[str, Any]]:
    """Return the answers as JSON: one object an engine."""
    return [
        {
            "engine": answer.engine,
            "version": answer.version,
            "equal": answer.is_equal,
            "asked": [
                {
                    "what": finding.asked,
                    "equal": finding.is_equal,
                    "refused": finding.refused,
                    "differences": list(finding.differences),
                    "seconds": round(finding.seconds, 3),
                }
                for finding in answer.findings
            ],
            "not_asked": list(answer.unasked),
        }
        for answer in answers
    ]


def _verdict(finding: Finding) -> Text:
    if finding.refused is not None:
        return Text("refused", style="red")
    return Text("equal", style="green") if finding.is_equal else Text("not equal", style="red")
