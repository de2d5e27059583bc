"""`llmorch resume`: go on with a run whose controller died or that was stopped."""

from typing import Annotated

import typer


def resume(
    run: Annotated[str, typer.Argument(help="The run's name in `runs`, or its folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Go on with a run: take over its living ranks, else start from its last checkpoint."""
    from launch.supervisor.journal import edges
    from launch.supervisor.verdict import Verdict
    from orchestrator.cli import launching, summary
    from orchestrator.cli.run_names import run_named
    from orchestrator.cli.screen import print_json, results, talk

    directory = run_named(run)
    closed = edges(directory.journal).closed
    if closed is not None and closed.verdict is Verdict.FINISHED:
        talk().print(f"{directory.path.name} has finished: {closed.reason}", markup=False)
        return
    prepared = launching.prepared(directory.run_file)
    outcome = launching.resumed(prepared, directory=directory, console=talk())
    document = summary.document(prepared.plan, outcome)
    launching.keep_summary(document, outcome)
    if as_json:
        print_json(document)
    else:
        results().print(summary.picture(prepared.plan, outcome))
    error = outcome.error()
    if error is not None:
        raise error
