"""What `llmorch data check` answers: what each corpus holds, or its first fault."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rich.table import Table

from launch.workers.data.check import Question, check
from launch.workers.data.corpus import Corpus, Fault
from orchestrator.errors import InvalidFile, Problem

SCHEMA = 1

Checked = Mapping[str, Corpus | Fault]


def checked(prefixes: Sequence[str], question: Question) -> Checked:
    """Check each corpus; `.bin` or `.idx` at the end of a prefix is forgiven."""
    stems = [prefix.removesuffix(".idx").removesuffix(".bin") for prefix in prefixes]
    return {stem: check(stem, question) for stem in stems}


def refuse_broken(found: Checked) -> None:
    """End in an error where a corpus is broken.

    Raises:
        InvalidFile: names each broken corpus with its first fault.
    """
    faults = [fault for fault in found.values() if isinstance(fault, Fault)]
    if faults:
        problems = [_problem(fault) for fault in faults]
        if len(faults) == 1:
            raise InvalidFile(file=str(faults[0].path), problems=problems)
        named = [
            replace(problem, key=f"{fault.path}: {problem.key}".removesuffix(": "))
            for fault, problem in zip(faults, problems, strict=True)
        ]
        raise InvalidFile(file=f"{len(faults)} corpora", problems=named)


def document(found: Checked) -> dict[str, Any]:
    """Return the answer as JSON; documents count from 1."""
    return {"schema": SCHEMA, "corpora": [_row(prefix, item) for prefix, item in found.items()]}


def picture(found: Checked) -> Table:
    """Return a table of the corpora."""
    table = Table(box=None, pad_edge=False)
    table.add_column("corpus", overflow="fold")
    for name in ("documents", "sequences", "tokens", "type"):
        table.add_column(name, justify="right")
    table.add_column("")
    for prefix, item in found.items():
        if isinstance(item, Fault):
            table.add_row(prefix, "", "", "", "", "broken")
        else:
            numbers = (item.num_documents, len(item.lengths), item.num_tokens)
            table.add_row(prefix, *(f"{n:,}" for n in numbers), item.dtype.name, "whole")
    return table


def _row(prefix: str, item: Corpus | Fault) -> dict[str, Any]:
    if isinstance(item, Fault):
        return {
            "prefix": prefix,
            "whole": False,
            "file": str(item.path),
            "problem": item.problem,
            "first_broken_document": None if item.document is None else item.document + 1,
        }
    return {
        "prefix": prefix,
        "whole": True,
        "documents": item.num_documents,
        "sequences": len(item.lengths),
        "tokens": item.num_tokens,
        "dtype": item.dtype.name,
    }


def _problem(fault: Fault) -> Problem:
    key = "" if fault.document is None else f"document {fault.document + 1:,}"
    return Problem(key=key, message=fault.problem, possible=fault.instead)
