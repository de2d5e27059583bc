"""`llmorch stop`: ask a run's controller to end it."""

from typing import Annotated

import typer


def stop(
    run: Annotated[str, typer.Argument(help="The run's name in `runs`, or its folder.")],
    now: Annotated[
        bool, typer.Option("--now", help="Kill the ranks instead of letting them save.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print where the run is as JSON.")
    ] = False,
) -> None:
    """Ask a run to save and leave; asked twice, or with --now, it ends at once."""
    from launch.wire import StopHow
    from orchestrator.cli.run_names import run_named
    from orchestrator.cli.screen import print_json, results
    from orchestrator.cli.stopping import document, sentence, stopped

    directory = run_named(run)
    answer = stopped(directory, StopHow.KILL if now else StopHow.SAVE)
    if as_json:
        print_json(document(directory, answer))
    else:
        results().print(sentence(directory, answer), markup=False, soft_wrap=True)
