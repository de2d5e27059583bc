"""Tokens and epochs of each source of a blend: how often a run reads what it has."""

from collections.abc import Sequence
from dataclasses import dataclass

MANY_EPOCHS = 4.0
"""Repeating data up to about four times is nearly as good as new data; from there on its value
falls (Muennighoff et al. 2023, "Scaling Data-Constrained Language Models", section 6)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlendSource:
    """A corpus: its weight relative to the others', and the tokens that are there to train on."""

    prefix: str
    weight: float
    available_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BlendShare:
    """What a run reads of a source."""

    prefix: str
    weight: float  # of 1
    available_tokens: int
    tokens: float
    epochs: float

    @property
    def is_worn_out(self) -> bool:
        """Whether the source is read more often than repeating is known to help."""
        return self.epochs > MANY_EPOCHS


def blend_shares(
    sources: Sequence[BlendSource], *, training_tokens: float
) -> tuple[BlendShare, ...]:
    """Return what a run reads of each source, in tokens and in epochs.

        weight_i = w_i / sum(w)     tokens_i = weight_i D     epochs_i = tokens_i / available_i

    Megatron draws whole samples by these weights; a source gives its share to within one sample.
    Ignored: what does not fill a last sample, less than a sequence a source.
    """
    total = sum(source.weight for source in sources)
    return tuple(_share(source, source.weight / total, training_tokens) for source in sources)


def _share(source: BlendSource, weight: float, training_tokens: float) -> BlendShare:
    tokens = weight * training_tokens
    return BlendShare(
        prefix=source.prefix,
        weight=weight,
        available_tokens=source.available_tokens,
        tokens=tokens,
        epochs=tokens / source.available_tokens,
    )
