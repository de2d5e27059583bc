"""What every card says of itself: its name, its sources, and which of its figures nobody read.

A figure is *unverified* when it was recalled, assumed or rests on a page that others contradict,
and nobody read it in the source named. Cards list such figures, and every table marks them.
"""

import datetime as dt
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

from orchestrator.specs.closed import Closed

NAME_TAG = "[name]"
CARD_TAG = "[card]"
"""Tags of a field that takes a card's name or the card itself; in brackets, as no key is."""


class Card(Closed):
    """A named set of figures with their sources; built-in cards must have both."""

    name: str = Field(min_length=1, description="what run files call it")
    source: tuple[str, ...] = Field(
        default=(), description="where the figures were read; `(recalled)` and `assumed:` say not"
    )
    retrieved: dt.date | None = Field(default=None, description="when the sources were read")
    confidence: Literal["high", "medium", "low"] | None = Field(
        default=None, description="how sure we are of the card as a whole"
    )
    unverified: tuple[str, ...] = Field(
        default=(), description="fields nobody read in a source, as `key` or `key.inner`"
    )
    notes: str = Field(default="", description="what the figures do not say")

    @model_validator(mode="after")
    def _check_unverified(self) -> Self:
        absent = [path for path in self.unverified if not _holds(self, path)]
        if absent:
            msg = f"unverified names '{absent[0]}', which this card does not hold"
            raise ValueError(msg)
        return self

    def is_unverified(self, path: str) -> bool:
        """Return whether a field (`prices`, `dense_tflops.fp8`) or what holds it is unverified."""
        return any(path == known or path.startswith(f"{known}.") for known in self.unverified)


def tag_of(value: Any) -> str:  # noqa: ANN401  a discriminator sees raw input
    """Return whether a user wrote a card's name or the card itself."""
    return CARD_TAG if isinstance(value, dict | Card) else NAME_TAG


def _holds(card: BaseModel, path: str) -> bool:
    here: object = card
    for part in path.split("."):
        if isinstance(here, BaseModel):
            here = getattr(here, part, None) if part in type(here).model_fields else None
        elif isinstance(here, dict):
            here = here.get(part)
        else:
            return False
    return here is not None
