"""What `llmorch models import` gives: the card as YAML or JSON, and what it left out."""

import json
import sys
from pathlib import Path
from typing import Any

from orchestrator.catalog.huggingface.imported import Imported
from orchestrator.cli.card_pages import computed_of
from orchestrator.cli.files import write_text
from orchestrator.cli.screen import talk
from orchestrator.specs.document import yaml_as_written

CONFIG = "config.json"
SCHEMA = 1
_LONGEST_VALUE = 60


def document_of(found: Imported) -> dict[str, Any]:
    """Return the answer of `llmorch models import --json`."""
    return {
        "schema": SCHEMA,
        "card": found.card.model_dump(mode="json", exclude_unset=True),
        "computed": computed_of(found.card),
        "unmapped": dict(found.unmapped),
    }


def deliver(found: Imported, *, out: Path | None) -> None:
    """Write the card's YAML to a file, or to stdout.

    Raises:
        StorageError: the file cannot be written.
    """
    text = yaml_as_written(found.card)
    if out is None:
        sys.stdout.write(text)
    else:
        write_text(out, text)
        talk().print(f"wrote {out}; next: llmorch plan --gpus N --model {out}", soft_wrap=True)


def tell(found: Imported) -> None:
    """Say on stderr how many parameters the card has and which keys it does not say."""
    console = talk()
    total = computed_of(found.card)["parameters"]
    console.print(f"{found.card.name}: {total:,} parameters counted from the fields")
    for key, value in found.unmapped.items():
        text = json.dumps(value)
        short = text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."
        console.print(f"not mapped: {key}: {short}", markup=False, soft_wrap=True)
    if found.card.reference_training is None:
        console.print(
            "add reference_training: to plan it without a run file (docs/catalog.md)",
            soft_wrap=True,
        )
