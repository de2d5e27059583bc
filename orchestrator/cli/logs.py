"""`llmorch logs`: what a run's ranks print, in one order."""

from typing import Annotated

import typer


def logs(
    run: Annotated[str, typer.Argument(help="The run's name in `runs`, or its folder.")],
    rank: Annotated[
        int | None, typer.Option(min=0, help="One rank; default: all, merged by time.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the run ends.")
    ] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many last lines.")] = 40,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print each line as a JSON object.")
    ] = False,
) -> None:
    """Show what ranks printed, merged by time; also of a run that has ended."""
    from orchestrator.cli.log_view import LogView, show
    from orchestrator.cli.run_names import run_named

    show(run_named(run), LogView(rank=rank, lines=lines, follow=follow, as_json=as_json))
