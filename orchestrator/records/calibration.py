"""What machines and software were found to give: the numbers that a fit may move."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Origin(StrEnum):
    """Where a number comes from.

    `FITTED` on measured rows; `VENDOR` a data sheet's; `DEFAULT` an engineer's guess that no
    row has moved.
    """

    FITTED = "fitted"
    VENDOR = "vendor"
    DEFAULT = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A number and where it comes from."""

    value: float
    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorFigures:
    """How far modelled steps of a class were off on rows held out of the fit.

    `low` and `high` are the 10th and 90th percentile of measured / modelled.
    """

    rows: int
    groups: int
    mean_percent: float
    p90_percent: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Calibration:
    """Named figures of a cost model, and the errors they leave. Compared by identity.

    A figure `memory.cpu` stands before `memory` on that architecture.
    """

    name: str
    figures: Mapping[str, Figure]
    errors: Mapping[str, ErrorFigures]
    fitted_rows: int = 0
    fitted_parameters: int = 0

    def value(self, name: str, architecture: str = "") -> float:
        """Return a figure's value, the architecture's own where it has one.

        Raises:
            KeyError: there is none of that name.
        """
        return self.figure(name, architecture).value

    def figure(self, name: str, architecture: str = "") -> Figure:
        """Return a figure, the architecture's own, that of unknown ones, or the common one.

        Raises:
            KeyError: there is none of that name.
        """
        for key in (f"{name}.{architecture}", name, f"{name}.unknown"):
            found = self.figures.get(key)
            if found is not None:
                return found
        raise KeyError(name)

    def family(self, name: str) -> float:
        """Return the slowdown of a framework family, that of families nobody measured if new."""
        known = self.figures.get(f"family.{name}")
        return known.value if known is not None else self.figures["family.other"].value
