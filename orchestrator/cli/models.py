"""A model as a flag names it: a card's name, or a file that holds a card."""

from pathlib import Path

from orchestrator.cli.files import text_of
from orchestrator.specs.document import parse
from orchestrator.specs.model import ModelCard


def model_field(text: str) -> str | ModelCard:
    """Return the name of a built-in card, or the card that a YAML file holds."""
    path = Path(text)
    if path.suffix not in {".yaml", ".yml"}:
        return text
    return parse(text_of(path), model=ModelCard, file=text)
