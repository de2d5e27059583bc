"""`llmorch score`: predicted against measured, row by row."""

from pathlib import Path
from typing import Annotated

import typer


def score(
    measured: Annotated[
        Path, typer.Argument(help="A CSV file of runs: columns of docs/cost-model.md.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Write the predictions of each row to this CSV file.")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="A file of `llmorch calibrate`; default: the built-in one.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Predict the runs of a file, and say how far off the predictions are."""
    from orchestrator.cli import score_report
    from orchestrator.cli.files import write_text
    from orchestrator.cli.measurements import calibration_in, rows_in
    from orchestrator.cli.screen import print_json, results, talk
    from orchestrator.cost.fitting.score import score_of

    used = calibration_in(calibration)
    found = score_of(rows_in(measured), used)
    if out is not None:
        write_text(out, score_report.predictions_csv(found))
        talk().print(f"wrote {len(found.predictions):,} predictions to {out}", soft_wrap=True)
    if as_json:
        print_json(score_report.document(found, used))
    else:
        results().print(score_report.picture(found, used))
