"""`llmorch calibrate`: refit the numbers of the cost model on measured rows."""

from pathlib import Path
from typing import Annotated

import typer


def calibrate(
    measured: Annotated[
        Path, typer.Argument(help="A CSV file of runs: columns of docs/cost-model.md.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="The calibration file to write.")],
    from_scratch: Annotated[
        bool,
        typer.Option(
            "--from-scratch", help="Start from engineering guesses, not from the built-in fit."
        ),
    ] = False,
    name: Annotated[str, typer.Option(help="What the calibration is called.")] = "my-cluster",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Fit the numbers of the cost model to measured runs of your own."""
    from orchestrator.catalog.calibration import text_of
    from orchestrator.cli import calibrate_report
    from orchestrator.cli.files import write_text
    from orchestrator.cli.measurements import rows_in
    from orchestrator.cli.screen import print_json, results, talk
    from orchestrator.cost.fitting.refit import refitted

    found = refitted(rows_in(measured), name=name, from_scratch=from_scratch)
    source = (f"fitted: llmorch calibrate {measured.name}",)
    write_text(out, text_of(found.calibration, source=source))
    if as_json:
        print_json(calibrate_report.document(found))
    else:
        results().print(calibrate_report.picture(found))
    talk().print(f"wrote {out}; use it with --calibration {out}", soft_wrap=True)
