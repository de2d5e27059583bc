"""`llmorch plan`: rank layouts, say why, save the best as a run file."""

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.specs.choices import Precision

DEFAULT_MODEL = "gpt3-175b"
DEFAULT_CLUSTER = "dgx-h100"
MAX_GPUS = 1_000_000


def plan(
    gpus: Annotated[int, typer.Option(min=1, max=MAX_GPUS, help="GPUs to train on.")],
    model: Annotated[str, typer.Option(help="A model card: its name or a file.")] = DEFAULT_MODEL,
    cluster: Annotated[str, typer.Option(help="A cluster card's name.")] = DEFAULT_CLUSTER,
    precision: Annotated[Precision, typer.Option(help="Matrix products.")] = Precision.BF16,
    out: Annotated[
        Path | None, typer.Option(help="Run file for the best; default: MODEL.N-gpus.yaml.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, max=100, help="How many layouts to show.")] = 10,
    calibration: Annotated[
        Path | None, typer.Option(help="A file of `llmorch calibrate`; default: the built-in one.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Rank the layouts of a model on a number of GPUs; figures are modelled."""
    from launch.clock import SystemClock
    from orchestrator import api
    from orchestrator.cli import plan_json, plan_table, saving
    from orchestrator.cli.measurements import calibration_in
    from orchestrator.cli.models import model_field
    from orchestrator.cli.progress import counting
    from orchestrator.cli.screen import print_json, results

    clock = SystemClock()
    began_s = clock.monotonic_s()
    used = calibration_in(calibration)
    run = api.default_run(model=model_field(model), cluster=cluster, gpus=gpus, precision=precision)
    with counting("examining layouts") as progress:
        report = api.plan(run, keep=top, progress=progress, calibration=used)
    elapsed_s = clock.monotonic_s() - began_s
    if as_json:
        print_json(plan_json.report_document(report, elapsed_s=elapsed_s))
    else:
        results().print(plan_table.picture(run, report))
        results().print(f"{report.evaluated:,} layouts examined in {elapsed_s:.1f} s.")
    if out is not None or not as_json:
        saving.save_best(report.plans[0], out=out)
