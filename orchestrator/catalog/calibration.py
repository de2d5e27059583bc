"""Calibrations: the built-in one as package data, and a user's own."""

from functools import cache
from importlib.resources import files
from types import MappingProxyType

from orchestrator.records.calibration import Calibration, ErrorFigures, Figure, Origin
from orchestrator.specs.calibration import CalibrationCard, ErrorSpec, FigureSpec
from orchestrator.specs.document import parse, yaml_of

BUILT_IN = "published"
"""The calibration on published rows that plans use unless they name another."""


@cache
def built_in() -> Calibration:
    """Return the calibration that comes with the package."""
    file = files("orchestrator.catalog") / "calibrations" / f"{BUILT_IN}.yaml"
    return calibration_of(file.read_text(encoding="utf-8"), file=f"calibration {BUILT_IN}")


def calibration_of(text: str, *, file: str) -> Calibration:
    """Return the calibration that a file says; what it does not say, the built-in one does.

    Raises:
        InvalidFile: it is not of the shape of a calibration.
    """
    card = parse(text, model=CalibrationCard, file=file)
    own = {
        name: Figure(value=one.value, origin=Origin(one.origin))
        for name, one in card.figures.items()
    }
    known = {} if card.name == BUILT_IN else dict(built_in().figures)
    errors = {
        kind: ErrorFigures(
            rows=one.rows,
            groups=one.groups,
            mean_percent=one.mean_percent,
            p90_percent=one.p90_percent,
            low=one.low,
            high=one.high,
        )
        for kind, one in card.errors.items()
    }
    return Calibration(
        name=card.name,
        figures=MappingProxyType({**known, **own}),
        errors=MappingProxyType(errors),
        fitted_rows=card.fitted_rows,
        fitted_parameters=card.fitted_parameters,
    )


def text_of(calibration: Calibration, *, source: tuple[str, ...], notes: str = "") -> str:
    """Return a calibration as the file that says it."""
    card = CalibrationCard(
        name=calibration.name,
        figures={
            name: FigureSpec(value=float(f"{one.value:.5g}"), origin=one.origin.value)
            for name, one in sorted(calibration.figures.items())
        },
        errors={
            kind: ErrorSpec(
                rows=one.rows,
                groups=one.groups,
                mean_percent=round(one.mean_percent, 2),
                p90_percent=round(one.p90_percent, 2),
                low=round(one.low, 4),
                high=round(one.high, 4),
            )
            for kind, one in sorted(calibration.errors.items())
        },
        fitted_rows=calibration.fitted_rows,
        fitted_parameters=calibration.fitted_parameters,
        source=source,
        notes=notes,
    )
    return yaml_of(card)
