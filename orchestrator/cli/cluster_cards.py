"""`llmorch clusters`: the built-in clusters and their accelerators as tables."""

from typing import Annotated

import typer


def clusters(
    words: Annotated[
        list[str] | None,
        typer.Argument(help="Words that stand in the name, provider, accelerator or fabric."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """List the built-in clusters and accelerators, with what is unverified marked."""
    from orchestrator.cli import card_tables
    from orchestrator.cli.screen import print_json, results

    found = card_tables.clusters_found(words or ())
    chips = (
        card_tables.accelerators_of(found) or card_tables.accelerators_named(words)
        if words
        else card_tables.all_accelerators()
    )
    if as_json:
        print_json(card_tables.clusters_document(found, chips))
    else:
        results().print(card_tables.clusters_picture(found, chips))
