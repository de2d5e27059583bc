"""How input files are cut into chunks: what one process tokenises at a time.

A chunk is a range of bytes whose lines begin in it, a whole text file, or a row group of a Parquet
file. The cut depends on the files and nothing else, so that a build that was interrupted finds the
same chunks again, and no file is read beforehand.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from orchestrator.errors import StorageError, UsageError

CHUNK_BYTES: Final = 4 << 20
"""Of input: some seconds of work for a tokenizer, and what a kill costs for each process."""


class TextUnit(StrEnum):
    """What a document of a plain text file is."""

    FILE = "file"
    LINE = "line"


class InputFormat(StrEnum):
    """How documents stand in a file."""

    JSONL = "jsonl"
    TEXT = "text"
    LINES = "lines"
    PARQUET = "parquet"


_SUFFIXES: Final = MappingProxyType(
    {
        ".jsonl": InputFormat.JSONL,
        ".ndjson": InputFormat.JSONL,
        ".json": InputFormat.JSONL,
        ".txt": InputFormat.TEXT,
        ".text": InputFormat.TEXT,
        ".md": InputFormat.TEXT,
        ".parquet": InputFormat.PARQUET,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFile:
    """A file to tokenise, as it is now; another size or time means that it has changed."""

    path: str
    format: InputFormat
    size_bytes: int
    mtime_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Part of a file: bytes from `start` to `end`, or one row group; `size_bytes` of the input."""

    path: str
    format: InputFormat
    start: int
    end: int
    size_bytes: int


def input_files(paths: Sequence[str], *, text_unit: TextUnit) -> tuple[InputFile, ...]:
    """Look at the files to tokenise, in the order given.

    Raises:
        UsageError: a suffix is not known.
        StorageError: a file is missing or cannot be looked at.
    """
    return tuple(_input_file(path, text_unit) for path in paths)


def chunks_of(files: Sequence[InputFile]) -> Iterator[Chunk]:
    """Cut the files into chunks, in order.

    Raises:
        StorageError: a Parquet file cannot be read.
    """
    for file in files:
        match file.format:
            case InputFormat.JSONL | InputFormat.LINES:
                starts: Sequence[int] = range(0, file.size_bytes, CHUNK_BYTES)
                for start in starts:
                    end = min(start + CHUNK_BYTES, file.size_bytes)
                    yield _chunk(file, start, end, size_bytes=end - start)
            case InputFormat.TEXT:
                yield _chunk(file, 0, file.size_bytes, size_bytes=file.size_bytes)
            case InputFormat.PARQUET:
                yield from _row_groups(file)


def _input_file(path: str, text_unit: TextUnit) -> InputFile:
    suffix = os.path.splitext(path)[1].lower()  # noqa: PTH122  kept as the user wrote it
    found = _SUFFIXES.get(suffix)
    if found is None:
        known = " ".join(_SUFFIXES)
        raise UsageError(problem=f"{path}: '{suffix}' is no known kind of file", instead=known)
    try:
        state = os.stat(path)  # noqa: PTH116
        with open(path, "rb"):  # noqa: PTH123
            pass  # now rather than after hours of work
    except OSError as error:
        raise StorageError(path=path, problem=error.strerror or str(error)) from error
    if found is InputFormat.TEXT and text_unit is TextUnit.LINE:
        found = InputFormat.LINES
    return InputFile(path=path, format=found, size_bytes=state.st_size, mtime_ns=state.st_mtime_ns)


def _row_groups(file: InputFile) -> Iterator[Chunk]:
    from launch.workers.data.parquet import num_row_groups

    count = num_row_groups(file.path)
    for group in range(count):
        yield _chunk(file, group, group + 1, size_bytes=file.size_bytes // count)


def _chunk(file: InputFile, start: int, end: int, *, size_bytes: int) -> Chunk:
    return Chunk(path=file.path, format=file.format, start=start, end=end, size_bytes=size_bytes)
