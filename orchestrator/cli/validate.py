"""`llmorch validate`: a dry run of a run file; no process is started."""

from pathlib import Path
from typing import Annotated

import typer


def validate(
    run_file: Annotated[Path, typer.Argument(help="The run file.", readable=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Check every rule of a run file, and its memory; nothing is started."""
    from orchestrator.cli.examination import examination_document, examination_picture, examined
    from orchestrator.cli.screen import print_json, results, talk

    found = examined(run_file)
    if as_json:
        print_json(examination_document(found))
    elif found.plan is not None:
        results().print(examination_picture(found))
    for problem in found.problems:
        if not as_json:
            talk().print(f"{run_file}: {problem}", markup=False, soft_wrap=True)
    if found.problems:
        raise typer.Exit(found.exit_code)
