"""What ranks say they wrote into a staged checkpoint, and the file that keeps it beside the rest.

A rank states the name, size and CRC32 of each file it wrote, on its own line and not through the
storage: so a file that the storage lost or cut off is noticed, whatever the storage says.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from launch.rank_lines import StagedFile
from launch.supervisor.events import (
    CheckpointCommitted,
    CheckpointRejected,
    Happening,
    RankStaged,
)

MANIFEST = "manifest.json"
_SCHEMA = 1
Files = Mapping[str, StagedFile]


@dataclass(slots=True)
class Manifests:
    """The statements of the present generation, by step."""

    _generation: int = 0
    _files: dict[int, dict[str, StagedFile]] = field(default_factory=dict)

    def note(self, event: Happening) -> None:
        """Something happened: a rank said what it wrote, or a checkpoint needs it no more."""
        if isinstance(event, RankStaged):
            self._state(event)
        elif isinstance(event, CheckpointCommitted | CheckpointRejected):
            for step in [s for s in self._files if s <= event.step]:
                del self._files[step]

    def of(self, generation: int, step: int) -> Files:
        """All that was stated of a checkpoint; nothing where ranks state nothing."""
        return self._files.get(step, {}) if generation == self._generation else {}

    def _state(self, event: RankStaged) -> None:
        if event.generation != self._generation:
            self._generation = event.generation
            self._files.clear()
        files = self._files.setdefault(event.step, {})
        files.update((file.name, file) for file in event.files)


def manifest_text(step: int, files: Files) -> str:
    """The manifest of a checkpoint."""
    listed = {
        name: {"size_bytes": file.size_bytes, "crc32": file.crc32}
        for name, file in sorted(files.items())
    }
    return json.dumps({"schema": _SCHEMA, "step": step, "files": listed}, indent=1) + "\n"


def read_manifest(text: str) -> tuple[StagedFile, ...]:
    """The files of a manifest.

    Raises:
        ValueError: it is not one.
    """
    try:
        files = json.loads(text)["files"]
        return tuple(
            StagedFile(name=name, size_bytes=facts["size_bytes"], crc32=facts["crc32"])
            for name, facts in files.items()
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(str(error)) from None
