"""Reading a file of measured runs, and the calibration that a command names."""

from pathlib import Path

from orchestrator.catalog.calibration import built_in, calibration_of
from orchestrator.cli.files import text_of
from orchestrator.cost.rows.row import KNOWN_COLUMNS, Row, rows_of
from orchestrator.errors import InvalidFile, Problem
from orchestrator.records.calibration import Calibration

NEEDED = ("gpu", "gpus", "model", "seq_len", "global_batch")


def rows_in(path: Path) -> tuple[Row, ...]:
    """Return the rows of a CSV file of measured runs.

    Raises:
        InvalidFile: it is unreadable, has no rows, or lacks columns that no row can do without.
    """
    rows = rows_of(text_of(path))
    problems = _problems(rows)
    if problems:
        raise InvalidFile(file=str(path), problems=problems)
    return rows


def calibration_in(path: Path | None) -> Calibration:
    """Return the calibration of a file, the built-in one where none is named.

    Raises:
        InvalidFile: the file is unreadable or not a calibration.
    """
    return built_in() if path is None else calibration_of(text_of(path), file=str(path))


def _problems(rows: tuple[Row, ...]) -> list[Problem]:
    if not rows:
        return [Problem(key="", message="has no rows below a header line")]
    columns = set(rows[0].cells)
    missing = [name for name in NEEDED if name not in columns]
    return [
        Problem(
            key=name,
            message="is a column that every row needs",
            possible=f"known columns: {', '.join(KNOWN_COLUMNS[:12])} ... (docs/cost-model.md)",
        )
        for name in missing
    ]
