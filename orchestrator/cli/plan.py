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
    sequence: Annotated[
        int | None, typer.Option(min=1, help="Tokens of a sequence; default: the card's.")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Sequences of a step; default: the card's.")
    ] = None,
    tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens to train on; default: the card's.")
    ] = None,
    engine: Annotated[
        str | None, typer.Option(help="Plan what this engine runs; default: what Megatrons do.")
    ] = None,
    layout: Annotated[
        str | None, typer.Option(help="Price this one alone: tp=8,pp=16,vpp=8,mbs=1.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The run's name.")] = None,
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
    from orchestrator.cli import plan_json, plan_question, plan_table, saving
    from orchestrator.cli.measurements import calibration_in
    from orchestrator.cli.progress import counting
    from orchestrator.cli.screen import print_json, results

    clock = SystemClock()
    began_s = clock.monotonic_s()
    used = calibration_in(calibration)
    flags = plan_question.Flags(
        gpus=gpus,
        model=model,
        cluster=cluster,
        precision=precision,
        sequence=sequence,
        batch=batch,
        tokens=tokens,
        engine=engine,
        layout=layout,
        name=name,
    )
    question = plan_question.question_of(flags)
    with counting("examining layouts") as progress:
        report = api.plan(
            question.run,
            capabilities=question.capabilities,
            keep=top,
            progress=progress,
            calibration=used,
        )
    elapsed_s = clock.monotonic_s() - began_s
    if as_json:
        print_json(plan_json.report_document(report, elapsed_s=elapsed_s))
    else:
        results().print(plan_table.picture(question.run, report))
        results().print(f"{report.evaluated:,} layouts examined in {elapsed_s:.1f} s.")
    if out is not None or not as_json:
        saving.save_best(report.plans[0], out=out, flags=flags)
