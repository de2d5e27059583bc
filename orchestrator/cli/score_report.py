"""A score as people, spreadsheets and scripts read it."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.cost.fitting.errors import Errors
from orchestrator.cost.fitting.score import Prediction, Score
from orchestrator.records.calibration import Calibration
from orchestrator.units import gib

COLUMNS = (
    *("id", "predicted_step_time_s", "predicted_tokens_per_s_per_gpu"),
    *("predicted_peak_mem_gib", "assumed", "skipped_reason"),
    *("measured_step_time_s", "error", "low_s", "high_s", "rates"),
)
"""Columns of the file of predictions; the interval from low to high holds four of five."""

_SHOWN_REASONS = 6


def picture(score: Score, calibration: Calibration) -> Group:
    """Return the errors by class and group, and what was left out."""
    parts: list[RenderableType] = [Text(headline(score, calibration))]
    if score.by_kind:
        parts += [Text(), by_kind(score, calibration), Text(), by_group(score)]
        parts += [Text(), Text(LEGEND, style="dim")]
    reasons = skipped(score.predictions)
    if reasons:
        parts += [Text(), Text("not predicted", style="bold"), *(Text(one) for one in reasons)]
    return Group(*parts)


LEGEND = (
    "Errors are modelled over measured step time, less 1; within a class every group counts once.\n"
    "`held out` is the error on groups that the calibration's fit had not seen; errors of rows "
    "that\nit has seen are in-sample. `in 80%` is the share of steps inside the interval told."
)


def headline(score: Score, calibration: Calibration) -> str:
    """Return what was predicted with what, in a sentence or two."""
    scored = sum(one.is_scored for one in score.predictions)
    return (
        f"{len(score.predictions):,} rows: {scored:,} with a step time scored, "
        f"{score.num_skipped:,} not predicted.\n"
        f"Calibration {calibration.name}: {calibration.fitted_parameters} numbers fitted on "
        f"{calibration.fitted_rows:,} rows."
    )


def by_kind(score: Score, calibration: Calibration) -> Table:
    """Return the errors of each class, percent."""
    table = _table("class", "rows", "groups", "mean", "p90", "bias", "held out", "in 80%")
    for kind, errors in score.by_kind.items():
        known = calibration.errors.get(kind)
        covered = score.covered[kind]
        table.add_row(
            kind,
            f"{errors.rows}",
            f"{errors.groups}",
            *_figures(errors),
            f"{known.mean_percent:.1f} / {known.p90_percent:.1f}" if known else "-",
            "-" if math.isnan(covered) else f"{covered:.0%}",
        )
    return table


def by_group(score: Score) -> Table:
    """Return the errors of each group, percent."""
    table = _table("group", "class", "rows", "mean", "p90", "bias", "worst")
    for (kind, group), errors in score.by_group.items():
        table.add_row(group, kind, f"{errors.rows}", *_figures(errors), f"{errors.worst:+.0f}")
    return table


def skipped(predictions: Sequence[Prediction]) -> list[str]:
    """Return why rows were not predicted, most frequent first."""
    counts: dict[str, int] = {}
    for one in predictions:
        if one.skipped_reason:
            counts[one.skipped_reason] = counts.get(one.skipped_reason, 0) + 1
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    lines = [f"{count:6,}  {reason}" for reason, count in ordered[:_SHOWN_REASONS]]
    rest = sum(count for _, count in ordered[_SHOWN_REASONS:])
    return [*lines, f"{rest:6,}  other reasons (--json or --out tells each)"] if rest else lines


def predictions_csv(score: Score) -> str:
    """Return the predictions as the text of a CSV file."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=COLUMNS, lineterminator="\n")
    writer.writeheader()
    for one in score.predictions:
        writer.writerow({key: _cell(value) for key, value in _row(one).items()})
    return text.getvalue()


def document(score: Score, calibration: Calibration) -> dict[str, Any]:
    """Return the score for scripts."""
    return {
        "schema": 1,
        "calibration": {
            "name": calibration.name,
            "fitted_rows": calibration.fitted_rows,
            "fitted_parameters": calibration.fitted_parameters,
        },
        "classes": {
            kind: {**asdict(errors), "covered": _plain(score.covered[kind])}
            for kind, errors in score.by_kind.items()
        },
        "groups": [
            {"class": kind, "group": group, **asdict(errors)}
            for (kind, group), errors in score.by_group.items()
        ],
        "rows": [_row(one) for one in score.predictions],
    }


def _row(one: Prediction) -> dict[str, Any]:
    seen, interval = one.observation, one.interval_s
    return {
        "id": one.id,
        "predicted_step_time_s": _rounded(one.step_s),
        "predicted_tokens_per_s_per_gpu": _rounded(one.tokens_per_s_per_gpu),
        "predicted_peak_mem_gib": _rounded(gib(one.memory.total_bytes)) if one.memory else None,
        "assumed": "; ".join(seen.assumed) if seen else "",
        "skipped_reason": one.skipped_reason,
        "measured_step_time_s": _rounded(seen.measured_s) if seen else None,
        "error": _rounded(one.error),
        "low_s": _rounded(interval[0]) if interval else None,
        "high_s": _rounded(interval[1]) if interval else None,
        "rates": one.origin.value if one.origin else "",
    }


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="left" if name == "class" else "right")
    return table


def _figures(errors: Errors) -> tuple[str, str, str]:
    return f"{errors.mean:.1f}", f"{errors.p90:.1f}", f"{errors.bias:+.1f}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)


def _cell(value: object) -> object:
    return "" if value is None else value
