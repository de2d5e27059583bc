"""`llmorch schedule`: the microbatch schedule of a run file or of flags, and its bubble."""

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.specs.choices import ScheduleKind


def schedule(
    run_file: Annotated[
        Path | None, typer.Argument(help="The run file; without it, the flags say the schedule.")
    ] = None,
    kind: Annotated[ScheduleKind | None, typer.Option(help="The schedule.")] = None,
    stages: Annotated[int | None, typer.Option(help="Pipeline ranks (pp).")] = None,
    microbatches: Annotated[int | None, typer.Option(help="Microbatches of a step.")] = None,
    virtual: Annotated[int | None, typer.Option(help="Chunks of a rank (vpp).")] = None,
    group: Annotated[int | None, typer.Option(help="Microbatches of a group; default: pp.")] = None,
    forward_ms: Annotated[
        float | None, typer.Option(help="Forward of one chunk; default: 10.")
    ] = None,
    backward_ms: Annotated[
        float | None, typer.Option(help="Backward of one chunk; default: 20.")
    ] = None,
    weight_ms: Annotated[
        float | None, typer.Option(help="Of it, the weights' part; default: half.")
    ] = None,
    latency_ms: Annotated[
        float | None, typer.Option(help="One hop between ranks; default: 0.")
    ] = None,
    balance: Annotated[
        bool, typer.Option("--balance", help="Look for a run file's shortest stage_layout.")
    ] = False,
    svg: Annotated[Path | None, typer.Option(help="Write a picture.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write the table that torch loads.")] = None,
    trace: Annotated[Path | None, typer.Option(help="Write a trace for ui.perfetto.dev.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Show the order in which pipeline ranks work, how long they idle and what they hold."""
    from orchestrator.cli import (
        schedule_balance,
        schedule_cases,
        schedule_files,
        schedule_json,
        schedule_report,
    )
    from orchestrator.cli.screen import print_json, results, talk

    flags = schedule_cases.Flags(
        kind=kind,
        stages=stages,
        microbatches=microbatches,
        virtual=virtual,
        group=group,
        forward_ms=forward_ms,
        backward_ms=backward_ms,
        weight_ms=weight_ms,
        latency_ms=latency_ms,
    )
    outputs = {"svg": svg, "csv": csv, "trace": trace}
    schedule_files.expect_apart(outputs)
    case = schedule_cases.case_asked(run_file, flags)
    report = schedule_report.report_of(case)
    better = None
    if balance:
        with talk().status("looking for a shorter stage_layout"):
            better = schedule_balance.balance_of(case, own_ns=report.timeline.makespan_ns)
    written = schedule_files.write(report, outputs=outputs)
    if as_json:
        print_json(schedule_json.document_of(report, files=written, balance=better))
        return
    results().print(schedule_report.text_of(report, balance=better), markup=False, soft_wrap=True)
    for path in written.values():
        talk().print(f"wrote {path}")
