"""A calibration file: what machines and software were found to give, and where from."""

from typing import Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from orchestrator.specs.card import Card
from orchestrator.specs.closed import Closed


class FigureSpec(Closed):
    """A number of the cost model and where it comes from."""

    value: float
    origin: Literal["fitted", "vendor", "default"] = Field(
        description="fitted on measured rows, a data sheet's, or a guess that no row has moved"
    )


class ErrorSpec(Closed):
    """How far modelled steps of a class of rows were off, on rows held out of the fit."""

    rows: PositiveInt
    groups: PositiveInt
    mean_percent: PositiveFloat = Field(description="mean of |modelled / measured - 1|, percent")
    p90_percent: PositiveFloat = Field(description="its 90th percentile, percent")
    low: PositiveFloat = Field(description="measured / modelled, 10th percentile")
    high: PositiveFloat = Field(description="measured / modelled, 90th percentile")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.low > self.high:
            msg = f"low {self.low:g} is above high {self.high:g}"
            raise ValueError(msg)
        return self


class CalibrationCard(Card):
    """The numbers that a fit may move, by name, and the errors that they leave."""

    figures: dict[str, FigureSpec]
    errors: dict[str, ErrorSpec] = Field(
        default_factory=dict, description="by class of rows: `dense H100`, `MoE`"
    )
    fitted_rows: int = Field(default=0, ge=0, description="rows that the fit saw")
    fitted_parameters: int = Field(default=0, ge=0, description="numbers that it moved")
