"""`llmorch generate`: write what the engine needs into a folder."""

from pathlib import Path
from typing import Annotated

import typer


def generate(
    run_file: Annotated[Path, typer.Argument(help="The run file.", readable=False)],
    to: Annotated[Path, typer.Option(help="The folder; made when absent.")],
    hostfile: Annotated[
        Path | None, typer.Option(help="With deepspeed: the hosts; default: launch.hostfile.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Write over files that are there.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what was written as JSON.")
    ] = False,
) -> None:
    """Write arguments, environment, start script and README of a run file into a folder."""
    from orchestrator.cli.generated_folder import folder_of, written
    from orchestrator.cli.screen import print_json, talk

    folder = folder_of(run_file, hostfile=hostfile)
    files = written(folder, to=to, over=force)
    if as_json:
        print_json({"schema": 1, "folder": str(to), "files": files})
        return
    for note in folder.notes:
        talk().print(f"note: {note}", markup=False)
    for file in files:
        typer.echo(str(to / file))
