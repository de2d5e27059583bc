"""`llmorch show`: a card with its numbers, where they come from, and what follows from them."""

from typing import Annotated

import typer


def show(
    name: Annotated[
        str, typer.Argument(help="A model, cluster, accelerator or environment card; none: list.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Show a built-in card, or list all of them."""
    from orchestrator.cli import cards_text
    from orchestrator.cli.screen import print_json, results

    if as_json:
        print_json(cards_text.document_of(name) if name else cards_text.list_document())
    else:
        results().print(cards_text.picture_of(name) if name else cards_text.list_picture())
