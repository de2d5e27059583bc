"""The shape every user-written model shares: closed, frozen, strict about types."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Size = Annotated[int, Field(gt=0, le=100_000_000)]
"""A width or a count of a model; more is a slip of the hand, and would be waited for in vain."""

Depth = Annotated[int, Field(gt=0, le=2_000)]
"""Layers of a model."""

Degree = Annotated[int, Field(gt=0, le=1_000_000)]
"""A degree of parallelism, or microbatches of a group."""


class Closed(BaseModel):
    """A mapping that refuses unknown keys and never coerces one type into another.

    Numbers are finite.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
