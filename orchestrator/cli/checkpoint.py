"""`llmorch checkpoint inspect`: what a checkpoint holds, and whether a run can load it."""

from pathlib import Path
from typing import Annotated

import typer

checkpoint = typer.Typer(help="Look into checkpoints.", no_args_is_help=True)


@checkpoint.callback()
def _group() -> None:
    """Look into checkpoints."""


@checkpoint.command("inspect")
def inspect(
    path: Annotated[
        Path, typer.Argument(help="A checkpoint, or the folder that names its newest.")
    ],
    run: Annotated[
        Path | None, typer.Option(help="Also say whether this run file can load it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Say what a checkpoint holds, whether it is whole, and which run can load it."""
    from orchestrator.cli import checkpoint_view as view
    from orchestrator.cli.screen import print_json

    looked = view.looked(path, run)
    if as_json:
        print_json(view.document(looked))
    else:
        typer.echo(view.text(looked), nl=False)
    if looked.exit_code:
        raise typer.Exit(looked.exit_code)
