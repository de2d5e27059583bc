"""`llmorch doctor`: does what is installed do what llmorch believes it does."""

from typing import Annotated

import typer

from orchestrator.errors import ExitCode


def doctor(
    engines: Annotated[
        bool, typer.Option("--engines", help="Compare schedules with what engines execute.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Check the installation; --engines reruns the comparison with the engines installed."""
    from orchestrator.cli import installation
    from orchestrator.cli.screen import print_json, results

    found = installation.examined(installation.Depth.ENGINES if engines else installation.Depth.OWN)
    if as_json:
        print_json(installation.document_of(found))
    else:
        for line in installation.lines_of(found):
            results().print(line, markup=False, soft_wrap=True)
    if not found.is_sound:
        raise typer.Exit(ExitCode.HOST)
