"""The documents of a chunk: a text each, or several that stay sequences of their own.

What is no document (broken UTF-8, broken JSON, no text under its key) is a value here, not an
error: whether it ends the work is the caller's choice.
"""

import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from launch.workers.data.chunks import Chunk, InputFormat
from launch.workers.data.parquet import ParquetError, column_values

_COUNTED_BYTES = 1 << 20
_HALF_A_PAIR = re.compile("[\ud800-\udfff]")  # JSON can say it, and UTF-8 cannot


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One or several texts, and the place they come from: a byte, or a row of its group."""

    texts: tuple[str, ...]
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BadDocument:
    """Something that is no document, and why."""

    at: int
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """The bytes of a chunk, from the first line that begins in it to the end of the last."""

    data: bytes
    start: int

    @property
    def crc(self) -> int:
        """Tells whether these bytes are still the same."""
        return zlib.crc32(self.data)


def block_of(chunk: Chunk) -> Block:
    """Read what belongs to a chunk of lines or a text file."""
    with open(chunk.path, "rb") as file:  # noqa: PTH123  kept as the user wrote it
        if chunk.start:
            file.seek(chunk.start - 1)
            file.readline()  # the end of a line that began before
        start = file.tell()
        if start >= chunk.end:
            return Block(data=b"", start=start)
        data = file.read(chunk.end - start)
        if not data.endswith(b"\n"):
            data += file.readline()
        return Block(data=data, start=start)


def documents_in(block: Block, chunk: Chunk, *, key: str) -> Iterator[Document | BadDocument]:
    """Yield a block's documents in order."""
    if chunk.format is InputFormat.JSONL:
        lines = _lines(block)
        yield from (_of_json(line, at, key) for at, line in lines if line.strip())
    elif chunk.format is InputFormat.LINES:
        yield from (_of_bytes(line, at) for at, line in _lines(block) if line)
    elif block.data:
        yield _of_bytes(block.data, block.start)


def rows_of(chunk: Chunk, *, key: str) -> Iterator[Document | BadDocument]:
    """Yield the documents of a row group."""
    values = column_values(chunk.path, group=chunk.start, column=key)
    try:
        for row, value in enumerate(values):
            yield _of_value(value, row, key)
    except ParquetError as error:
        yield BadDocument(at=0, problem=str(error))


def spoken_place(chunk: Chunk, at: int) -> str:
    """Return where a document is, for people: a line of its file, or a row of its group."""
    if chunk.format is InputFormat.PARQUET:
        return f"{chunk.path}: row {at + 1} of row group {chunk.start + 1}"
    if chunk.format is InputFormat.TEXT:
        return chunk.path
    line, left = 1, at
    with open(chunk.path, "rb") as file:  # noqa: PTH123
        while left and (data := file.read(min(left, _COUNTED_BYTES))):
            line, left = line + data.count(b"\n"), left - len(data)
    return f"{chunk.path}: line {line}"


def _lines(block: Block) -> Iterator[tuple[int, bytes]]:
    at = block.start
    for line in block.data.split(b"\n"):
        yield at, line
        at += len(line) + 1


def _of_json(line: bytes, at: int, key: str) -> Document | BadDocument:
    try:
        record = json.loads(line.decode())
    except UnicodeDecodeError as error:
        return _not_utf8(error, at)
    except (ValueError, RecursionError) as error:
        return BadDocument(at=at, problem=f"is not JSON: {error}")
    if not isinstance(record, dict):
        return BadDocument(at=at, problem="is not a JSON object")
    if key not in record:
        found = ", ".join(list(record)[:8])
        return BadDocument(at=at, problem=f"has no '{key}'; it has {found or 'nothing'}")
    return _of_value(record[key], at, key)


def _of_value(value: object, at: int, key: str) -> Document | BadDocument:
    texts: list[str] = []
    for text in value if isinstance(value, list) else [value]:
        if not isinstance(text, str):
            return BadDocument(at=at, problem=f"'{key}' is {type(text).__name__}, not a text")
        if not text.isascii() and _HALF_A_PAIR.search(text):
            return BadDocument(at=at, problem=f"'{key}' has half of a surrogate pair")
        texts.append(text)
    return Document(texts=tuple(texts), at=at)


def _of_bytes(data: bytes, at: int) -> Document | BadDocument:
    try:
        return Document(texts=(data.decode(),), at=at)
    except UnicodeDecodeError as error:
        return _not_utf8(error, at)


def _not_utf8(error: UnicodeDecodeError, at: int) -> BadDocument:
    return BadDocument(at=at, problem=f"is not UTF-8 (byte {at + error.start} of the file)")
