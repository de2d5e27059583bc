"""Find a launcher by its name; the built-in ones come in by the same door as anybody's."""

from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import cast

from launch.launchers.contract import Launcher
from orchestrator.errors import UnknownName

GROUP = "llmorch.launchers"


def find_launcher(name: str, *, among: Iterable[EntryPoint] | None = None) -> Launcher:
    """The launcher of that name, among those that are installed.

    Raises:
        UnknownName: there is none; names the nearest.
    """
    points = {
        point.name: point for point in (entry_points(group=GROUP) if among is None else among)
    }
    if name not in points:
        raise UnknownName(kind="launcher", name=name, known=points)
    return cast("Launcher", points[name].load())  # what a plug-in is, only its author knows
