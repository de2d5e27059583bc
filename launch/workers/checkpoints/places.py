"""Which folder is meant: a checkpoint's own, or one whose pointer names the newest."""

import re
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import StorageError

_POINTERS = ("latest", "latest_checkpointed_iteration.txt", "latest_universal")
_ITERATION = re.compile(r"^\d+$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The files below a folder by their path in it, with their sizes."""

    folder: Path
    sizes: dict[str, int]

    @property
    def size_bytes(self) -> int:
        """All of them together."""
        return sum(self.sizes.values())


def checkpoint_folder(path: Path) -> Path:
    """Return the folder of the checkpoint that a path means.

    Raises:
        StorageError: nothing is there, or the pointer names what is not there.
    """
    if not path.is_dir():
        problem = "is a file; give the checkpoint's folder" if path.exists() else "is not there"
        raise StorageError(path=str(path), problem=problem)
    if (path / "checkpoints" / "latest").is_file():  # a run directory
        path /= "checkpoints"
    for name in _POINTERS:
        pointer = path / name
        if pointer.is_file():
            return _named(path, pointer)
    return path


def _named(path: Path, pointer: Path) -> Path:
    word = pointer.read_text(encoding="utf-8", errors="replace").strip()
    name = f"iter_{int(word):07d}" if _ITERATION.match(word) else word
    folder = path / name
    inside = folder.resolve().is_relative_to(path.resolve())
    if not word or not inside or not folder.is_dir():
        raise StorageError(
            path=str(pointer), problem=f"names '{word}', and no such folder is beside it"
        )
    return folder


def listing(folder: Path) -> Listing:
    """Return every file below a folder; links are not followed out of it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return Listing(
        folder=folder,
        sizes={str(path.relative_to(folder)): path.stat().st_size for path in files},
    )
