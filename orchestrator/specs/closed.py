"""The shape every user-written model shares: closed, frozen, strict about types."""

from pydantic import BaseModel, ConfigDict


class Closed(BaseModel):
    """A mapping that refuses unknown keys and never coerces one type into another.

    Numbers are finite.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
