"""What `llmorch doctor` finds: our two packages, what they need, and the engines beside them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import Any

import launch
import orchestrator
from orchestrator.cli.engine_comparison import Comparison, compare, summary
from orchestrator.cli.progress import counting
from orchestrator.schedules.engines import PipelineEngine

SCHEMA = 1
_PACKAGES = ("torch", "megatron-core", "deepspeed", "transformer-engine", "numba")


class Depth(StrEnum):
    """How far to look: at ourselves alone, or at what engines execute too."""

    OWN = "own"
    ENGINES = "engines"


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """What is installed; a version is None where a package is absent."""

    problems: tuple[str, ...]
    versions: Mapping[str, str | None]
    engines: tuple[Comparison, ...]

    @property
    def is_sound(self) -> bool:
        """Whether nothing was found wrong; an absent engine is not wrong."""
        return not self.problems and all(engine.is_equal for engine in self.engines)


def examined(depth: Depth) -> Installation:
    """Return what is installed and, to the depth wanted, what engines do."""
    return Installation(
        problems=tuple(_own_problems()),
        versions={name: _version(name) for name in _PACKAGES},
        engines=_compared() if depth is Depth.ENGINES else (),
    )


def lines_of(found: Installation) -> list[str]:
    """Return the findings for people."""
    known = ", ".join(f"{name} {version or 'absent'}" for name, version in found.versions.items())
    lines = [f"llmorch {orchestrator.__version__}; {known}", *found.problems]
    for engine in found.engines:
        lines += summary(engine)
    return [*lines, "sound" if found.is_sound else "not sound"]


def document_of(found: Installation) -> dict[str, Any]:
    """Return the findings for scripts; keys are added, never renamed or removed."""
    return {
        "schema": SCHEMA,
        "sound": found.is_sound,
        "problems": list(found.problems),
        "versions": dict(found.versions),
        "engines": [asdict(engine) | {"equal": engine.is_equal} for engine in found.engines],
    }


def _own_problems() -> list[str]:
    """Other programs have a package `launch` too: ours stand side by side, with one version."""
    ours, acting = Path(orchestrator.__file__).parent, Path(launch.__file__).parent
    problems = []
    if ours.parent != acting.parent:
        problems.append(f"launch is imported from {acting}, not from beside {ours}")
    if orchestrator.__version__ != launch.__version__:
        problems.append(
            f"orchestrator is {orchestrator.__version__} and launch {launch.__version__}"
        )
    return problems


def _compared() -> tuple[Comparison, ...]:
    found = []
    with counting("comparing engines") as progress:
        for number, engine in enumerate(PipelineEngine):
            progress(number, len(PipelineEngine))
            found.append(compare(engine))
    return tuple(found)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
