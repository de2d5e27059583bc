"""A refit as people and scripts read it."""

from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from orchestrator.cost.fitting.refit import Refit

_SHOWN = 12


def picture(refit: Refit) -> Group:
    """Return what the fit moved, and the errors before and after."""
    return Group(
        Text(headline(refit)),
        Text(),
        _errors(refit),
        Text(),
        Text("moved most", style="bold"),
        _moves(refit),
    )


def headline(refit: Refit) -> str:
    """Return what was fitted on what."""
    fit = refit.fit
    return (
        f"{fit.num_moved} of {len(fit.parameters)} numbers fitted on "
        f"{len(fit.problem.observations):,} rows in {refit.num_groups} groups; "
        f"{refit.num_skipped:,} rows left out."
    )


def document(refit: Refit) -> dict[str, Any]:
    """Return the refit for scripts."""
    return {
        "schema": 1,
        "name": refit.calibration.name,
        "fitted_parameters": refit.fit.num_moved,
        "parameters": len(refit.fit.parameters),
        "rows": len(refit.fit.problem.observations),
        "groups": refit.num_groups,
        "skipped": refit.num_skipped,
        "classes": {
            kind: {
                "rows": after.rows,
                "before_mean_percent": round(refit.before[kind].mean, 2),
                "in_sample_mean_percent": round(after.mean, 2),
                "held_out_mean_percent": round(refit.calibration.errors[kind].mean_percent, 2),
            }
            for kind, after in refit.after.items()
        },
        "figures": {
            name: {"value": figure.value, "origin": figure.origin.value}
            for name, figure in sorted(refit.calibration.figures.items())
        },
    }


def _errors(refit: Refit) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("class")
    for name in ("rows", "before", "in sample", "held out", "p90 held out"):
        table.add_column(name, justify="right")
    for kind, after in refit.after.items():
        held = refit.calibration.errors[kind]
        table.add_row(
            kind,
            f"{after.rows}",
            f"{refit.before[kind].mean:.1f}%",
            f"{after.mean:.1f}%",
            f"{held.mean_percent:.1f}%" if held.groups > 1 else "one group",
            f"{held.p90_percent:.1f}%" if held.groups > 1 else "-",
        )
    return table


def _moves(refit: Refit) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    for _ in range(2):
        table.add_column(justify="right")
    table.add_column()
    moved = sorted(refit.moves, key=lambda move: -abs(move.deviations))
    for move in moved[:_SHOWN]:
        table.add_row(move.name, f"{move.before:.4g}", f"-> {move.after:.4g}", move.meaning)
    return table
