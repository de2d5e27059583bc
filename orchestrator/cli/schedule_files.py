"""The files that `llmorch schedule` writes."""

from collections.abc import Mapping
from pathlib import Path

from orchestrator.cli.files import write_text
from orchestrator.cli.schedule_report import ScheduleReport
from orchestrator.schedules.exports import csv as csv_format
from orchestrator.schedules.exports import svg as svg_format
from orchestrator.schedules.exports import trace as trace_format


def write(
    report: ScheduleReport, *, svg: Path | None, csv: Path | None, trace: Path | None
) -> Mapping[str, str]:
    """Write the files that were asked for; return their paths by format.

    Raises:
        StorageError: a file cannot be written.
        UsageError: the picture would have too many boxes.
    """
    texts: dict[str, tuple[Path, str]] = {}
    if svg is not None:
        texts["svg"] = (svg, svg_format.text_of(report.timeline))
    if csv is not None:
        texts["csv"] = (csv, csv_format.text_of(report.timeline.schedule))
    if trace is not None:
        texts["trace"] = (trace, trace_format.text_of(report.timeline, memory=report.case.memory))
    for path, text in texts.values():
        write_text(path, text)
    return {name: str(path) for name, (path, _) in texts.items()}
