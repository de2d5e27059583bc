"""How much a corpus holds."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What a corpus holds; `num_tokens` includes one end of document each."""

    num_documents: int
    num_tokens: int
