"""The files that `llmorch schedule` writes."""

from collections.abc import Mapping
from pathlib import Path

from orchestrator.cli.files import write_text
from orchestrator.cli.schedule_report import ScheduleReport
from orchestrator.errors import UsageError
from orchestrator.schedules.exports import csv as csv_format
from orchestrator.schedules.exports import svg as svg_format
from orchestrator.schedules.exports import trace as trace_format


def expect_apart(outputs: Mapping[str, Path | None]) -> None:
    """Refuse paths that name no file, and two formats in one file.

    Raises:
        UsageError: which flag, and what it was given.
    """
    taken: dict[Path, str] = {}
    for name, path in outputs.items():
        if path is None:
            continue
        if not path.name:  # "" and "." are the same to Path
            raise UsageError(
                problem=f"--{name} '{path}' is no file name", instead=f"--{name} schedule.{name}"
            )
        other = taken.setdefault(path.resolve(), name)
        if other != name:
            raise UsageError(
                problem=f"--{other} and --{name} would both write {path}",
                instead="give each a file of its own",
            )


def write(report: ScheduleReport, *, outputs: Mapping[str, Path | None]) -> Mapping[str, str]:
    """Write the files that were asked for; return their paths by format.

    Raises:
        StorageError: a file cannot be written.
        UsageError: the picture would have too many boxes.
    """
    asked = {name: path for name, path in outputs.items() if path is not None}
    texts = {name: _text_of(report, name) for name in asked}
    for name, path in asked.items():
        write_text(path, texts[name])
    return {name: str(path) for name, path in asked.items()}


def _text_of(report: ScheduleReport, name: str) -> str:
    match name:
        case "svg":
            return svg_format.text_of(report.timeline)
        case "csv":
            return csv_format.text_of(report.timeline.schedule)
        case _:
            return trace_format.text_of(report.timeline, memory=report.case.memory)
