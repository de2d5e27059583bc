"""`llmorch models`: the built-in models as a table, and a card from a Hugging Face folder."""

import datetime as dt
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup
from typing_extensions import override

_LIST = "list"


class _SearchGroup(TyperGroup):
    """A group whose words are a search unless the first of them names a command."""

    @override
    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        known = {*self.commands, *ctx.help_option_names}
        return super().parse_args(ctx, args if args and args[0] in known else [_LIST, *args])


models = typer.Typer(cls=_SearchGroup, help="List the built-in models, or import one.")


@models.command(_LIST)
def listed(
    words: Annotated[
        list[str] | None, typer.Argument(help="Words that stand in the name or family.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """List the built-in models, with parameters counted from their fields."""
    from orchestrator.cli import card_tables
    from orchestrator.cli.screen import print_json, results

    cards = card_tables.models_found(words or ())
    if as_json:
        print_json(card_tables.models_document(cards))
    else:
        results().print(card_tables.models_picture(cards))


@models.command("import")
def imported(
    folder: Annotated[Path, typer.Argument(help="A folder with a Hugging Face config.json.")],
    name: Annotated[str, typer.Option(help="The card's name; else the folder's.")] = "",
    out: Annotated[Path | None, typer.Option(help="Write the card to this file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Turn a config.json into a model card, saying what of it could not be mapped."""
    from launch.clock import SystemClock
    from orchestrator.catalog.huggingface.imported import imported as card_from
    from orchestrator.cli import importing
    from orchestrator.cli.files import text_of
    from orchestrator.cli.screen import print_json

    path = folder / importing.CONFIG if folder.is_dir() else folder
    today = dt.datetime.fromtimestamp(SystemClock().wall_s(), tz=dt.UTC).date()
    card_name = name or path.resolve().parent.name
    found = card_from(text_of(path), name=card_name, file=str(path), retrieved=today)
    if as_json:
        print_json(importing.document_of(found))
    else:
        importing.deliver(found, out=out)
    importing.tell(found)
