"""Writes text files as a corpus of bytes in Megatron's indexed format (.bin and .idx).

The tokens are the bytes themselves, 0 to 255, and 256 ends a document: no tokenizer to download,
and a loss in nats per byte. The corpus appears under its name only when it is complete, with a
small .json beside it that says what it was made of.
"""

import json
import os
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from launch.workers.data.counts import Counts
from orchestrator.errors import StorageError

_FOREIGN: Final = ("site-packages", "dist-packages")  # in the folder, not of the library


class Source(StrEnum):
    """Where the text comes from."""

    STDLIB = "stdlib"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a corpus is made of; a finished corpus with the same recipe is used again."""

    source: Source
    limit_bytes: int
    python: str
    schema: int = 1


def prepare(prefix: Path, recipe: Recipe) -> Counts:
    """Make the corpus `prefix`.bin and .idx, unless it is there with the same recipe.

    Raises:
        StorageError: the files cannot be written.
    """
    try:
        return _finished(prefix, recipe) or _build(prefix, recipe)
    except OSError as error:
        problem = error.strerror or str(error)
        raise StorageError(path=error.filename or str(prefix), problem=problem) from error


def standard_library_files() -> Iterator[Path]:
    """The Python sources that come with the interpreter, in an order that does not change."""
    root = Path(sysconfig.get_path("stdlib"))
    paths = (path for path in sorted(root.rglob("*.py")) if path.is_file())
    return (path for path in paths if not any(part in _FOREIGN for part in path.parts))


def read_documents(files: Iterable[Path], *, limit_bytes: int) -> Iterator[bytes]:
    """Whole files until the limit, the last one cut; empty files are no documents."""
    left_bytes = limit_bytes
    for path in files:
        text = path.read_bytes()[:left_bytes]
        if text:
            yield text
        left_bytes -= len(text)
        if left_bytes == 0:
            return


def _finished(prefix: Path, recipe: Recipe) -> Counts | None:
    """The counts of a complete corpus with that recipe; None when it has to be made."""
    try:
        note = json.loads(_note_path(prefix).read_text())
        size_bytes = Path(f"{prefix}.bin").stat().st_size
    except (FileNotFoundError, ValueError):
        return None
    is_same = note.get("recipe") == asdict(recipe) and note.get("size_bytes") == size_bytes
    if not is_same or not Path(f"{prefix}.idx").exists():
        return None
    return Counts(**note["counts"])


def _build(prefix: Path, recipe: Recipe) -> Counts:
    # Seconds, for Megatron's own writer: only when there is something to write.
    from launch.workers.data.indexed import write_documents

    prefix.parent.mkdir(parents=True, exist_ok=True)
    aside = prefix.with_name(f"{prefix.name}.building-{os.getpid()}")
    built = [Path(f"{aside}{suffix}") for suffix in (".bin", ".idx", ".json")]
    try:
        documents = read_documents(_files(recipe), limit_bytes=recipe.limit_bytes)
        counts = write_documents(aside, documents)
        note = {
            "recipe": asdict(recipe),
            "counts": asdict(counts),
            "size_bytes": built[0].stat().st_size,
        }
        built[2].write_text(json.dumps(note, indent=2) + "\n")
        _publish(built, prefix)
    finally:
        for path in built:
            path.unlink(missing_ok=True)
    return counts


def _files(recipe: Recipe) -> Iterator[Path]:
    match recipe.source:
        case Source.STDLIB:
            return standard_library_files()


def _publish(built: list[Path], prefix: Path) -> None:
    """Give the finished files their names; until the last one has it there is no corpus."""
    finals = [prefix.with_name(f"{prefix.name}{path.suffix}") for path in built]
    for final in reversed(finals):
        final.unlink(missing_ok=True)
    for path, final in zip(built, finals, strict=True):
        path.rename(final)


def _note_path(prefix: Path) -> Path:
    return prefix.with_name(f"{prefix.name}.json")
