"""`llmorch launch`: start a run and supervise it until its last step."""

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.specs.choices import Via


def launch(
    run_file: Annotated[Path, typer.Argument(help="The run file.", readable=False)],
    run_dir: Annotated[
        Path | None, typer.Option(help="The run's folder; default: launch.folder/NAME, numbered.")
    ] = None,
    via: Annotated[
        Via | None, typer.Option(help="What starts the processes; default: launch.via.")
    ] = None,
    hostfile: Annotated[
        Path | None, typer.Option(help="With ssh: the hosts; default: launch.hostfile.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print exactly what would be started.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the request or the summary as JSON.")
    ] = False,
) -> None:
    """Start the run of a run file and supervise it until its last step."""
    from orchestrator.cli import launching, summary
    from orchestrator.cli.outlet import ReaderGone
    from orchestrator.cli.screen import print_json, results, unhurried_talk

    prepared = launching.prepared(run_file, via=via, hostfile=hostfile)
    if dry_run:
        typer.echo(prepared.request.to_json() if as_json else prepared.request.to_text(), nl=False)
        return
    with unhurried_talk() as console:
        outcome = launching.launched(prepared, run_dir=run_dir, console=console)
    document = summary.document(prepared.plan, outcome)
    launching.keep_summary(document, outcome)
    error = outcome.error()
    try:
        if as_json:
            print_json(document)
        else:
            results().print(summary.picture(prepared.plan, outcome))
    except (OSError, ReaderGone):  # what the run came to matters more than who still reads it
        if error is None:
            raise
    if error is not None:
        raise error
