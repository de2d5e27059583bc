"""`llmorch validate`: a dry run of a run file; no process is started."""

from pathlib import Path
from typing import Annotated

import typer


def validate(
    run_file: Annotated[Path, typer.Argument(help="The run file.", readable=False)],
    hostfile: Annotated[
        Path | None, typer.Option(help="Check these hosts, and show what their links carry.")
    ] = None,
    rank_map: Annotated[
        bool, typer.Option("--rank-map", help="Show which host holds which ranks.")
    ] = False,
    svg: Annotated[Path | None, typer.Option(help="Write the rank map as a picture.")] = None,
    reordered: Annotated[
        Path | None, typer.Option(help="Write the hosts in the order that suits the fabric best.")
    ] = None,
    engine_check: Annotated[
        bool,
        typer.Option("--engine-check", help="Ask the installed engine too; it needs no GPU."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Check every rule of a run file, and its memory; nothing is started."""
    from rich.text import Text

    from orchestrator.cli.engine_check_page import engine_page_of
    from orchestrator.cli.examination import examination_document, examination_picture, examined
    from orchestrator.cli.screen import print_json, results, talk
    from orchestrator.cli.topology_page import page_of
    from orchestrator.cli.topology_view import Wishes, expect_possible
    from orchestrator.errors import ExitCode

    wishes = Wishes(hostfile=hostfile, svg=svg, reordered=reordered, wants_rank_map=rank_map)
    expect_possible(wishes)
    found = examined(run_file)
    page = page_of(found.plan, wishes)
    engine = engine_page_of(found.plan if engine_check else None)
    good = not found.problems and not page.complaints and engine.error is None
    if as_json:
        document = {**examination_document(found), "valid": good}
        print_json({**document, **page.document, **engine.document})
    elif found.plan is not None:
        pictures = [examination_picture(found), page.picture, engine.picture]
        pictures.append(Text(f"{run_file}: valid", style="green") if good else None)
        results().print(*(picture for picture in pictures if picture), sep="\n")
    complaints = [f"{run_file}: {problem}" for problem in found.problems] + [*page.complaints]
    for line in () if as_json else (*complaints, *found.talk, *page.talk):
        talk().print(line, markup=False, soft_wrap=True)
    if complaints:
        raise typer.Exit(found.exit_code or ExitCode.INVALID_FILE)
    if engine.error is not None:
        raise engine.error
