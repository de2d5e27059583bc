"""`llmorch runs`: the runs of a folder, and how each is doing."""

from pathlib import Path
from typing import Annotated

import typer


def runs(
    folder: Annotated[
        Path, typer.Argument(help="Where run directories are; launch.folder of a run file.")
    ] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the runs as JSON.")] = False,
) -> None:
    """List runs: state, step, age."""
    from launch.clock import SystemClock
    from launch.supervisor.survey import runs_in, survey
    from orchestrator.cli.run_table import document, picture
    from orchestrator.cli.screen import print_json, results, talk

    found = survey(runs_in(folder))
    now_s = SystemClock().wall_s()
    if as_json:
        print_json(document(found, now_s=now_s))
    elif found:
        results().print(picture(found, now_s=now_s))
    else:
        talk().print(f"no runs in {folder}; another folder: llmorch runs FOLDER", markup=False)
