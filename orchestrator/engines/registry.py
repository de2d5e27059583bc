"""Find engines by name among the installed entry points `llmorch.engines`."""

from importlib.metadata import entry_points
from typing import cast

from orchestrator.engines.contract import Engine
from orchestrator.errors import UnknownName

GROUP = "llmorch.engines"


def engine_names() -> tuple[str, ...]:
    """Return the names of the installed engines, sorted."""
    return tuple(sorted(entry_points(group=GROUP).names))


def engine_named(name: str) -> Engine:
    """Return an installed engine.

    Raises:
        UnknownName: no engine of that name is installed; the nearest is given.
    """
    found = tuple(entry_points(group=GROUP, name=name))
    if not found:
        raise UnknownName(kind="engine", name=name, known=engine_names())
    # Entry points are typed as Any; the conformance suite holds what is behind them.
    return cast(Engine, found[0].load())
