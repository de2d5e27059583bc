"""Whether an indexed corpus is whole: `prefix`.bin and .idx of Megatron's format, by their sizes.

A copy that was cut short opens without complaint and fails somewhere in the first epoch, on some
rank, as a segmentation fault or an index out of range. The index says how long both files must be.

The .idx: 9 bytes of magic, u64 version 1, u8 type of the tokens, u64 sequences, u64 documents, then
i32 lengths [sequences], i64 pointers [sequences], i64 documents [documents]; little-endian
(megatron/core/datasets/indexed_dataset.py). Standard library alone.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Final

from orchestrator.errors import EngineRefused, Problem

_MAGIC: Final = b"MMIDIDX\x00\x00"
_HEADER: Final = struct.Struct("<9sQBQQ")
_LENGTH_BYTES, _POINTER_BYTES, _DOCUMENT_BYTES = 4, 8, 8
_TOKEN_BYTES: Final = MappingProxyType({1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 8, 7: 4, 8: 2})


def require_corpora(prefixes: Sequence[str]) -> None:
    """Refuse corpora that are missing or not whole; trying again would not help.

    Raises:
        EngineRefused: names every problem.
    """
    problems = [problem for prefix in prefixes for problem in _problems(prefix)]
    if problems:
        reason = "\n".join(str(problem) for problem in problems)
        raise EngineRefused(engine="megatron-core", reason=reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    token_bytes: int
    num_sequences: int
    num_documents: int

    @property
    def index_bytes(self) -> int:
        per_sequence = _LENGTH_BYTES + _POINTER_BYTES
        return (
            _HEADER.size + self.num_sequences * per_sequence + self.num_documents * _DOCUMENT_BYTES
        )


def _problems(prefix: str) -> Iterator[Problem]:
    index, tokens = Path(f"{prefix}.idx"), Path(f"{prefix}.bin")
    missing = [path for path in (index, tokens) if not path.is_file()]
    for path in missing:
        yield Problem(
            key=str(path),
            message="no such corpus" if len(missing) > 1 else "missing, and its other half is here",
            possible="name one under data.prefix, or let data.corpus make it",
        )
    if missing:
        return
    try:
        with index.open("rb") as file:
            yield from _unwhole(index, tokens, file)
    except OSError as error:
        yield Problem(key=str(index), message=error.strerror or str(error))


def _unwhole(index: Path, tokens: Path, file: BinaryIO) -> Iterator[Problem]:
    again = "copy or prepare the corpus again: it is not whole"
    header = _header(file.read(_HEADER.size))
    if header is None:
        yield Problem(key=str(index), message="not an index of Megatron's format", possible=again)
        return
    found = index.stat().st_size
    if found != header.index_bytes:
        message = (
            f"{found:,} bytes, and {header.num_sequences:,} sequences in "
            f"{header.num_documents - 1:,} documents take {header.index_bytes:,}"
        )
        yield Problem(key=str(index), message=message, possible=again)
        return
    found, wanted = tokens.stat().st_size, _token_bytes(header, file)
    if found != wanted:
        message = f"{found:,} bytes, and its index tells of {wanted:,}"
        yield Problem(key=str(tokens), message=message, possible=again)


def _header(raw: bytes) -> _Header | None:
    if len(raw) < _HEADER.size:
        return None
    magic, version, code, num_sequences, num_documents = _HEADER.unpack(raw)
    if magic != _MAGIC or version != 1 or code not in _TOKEN_BYTES:
        return None
    return _Header(
        token_bytes=_TOKEN_BYTES[code], num_sequences=num_sequences, num_documents=num_documents
    )


def _token_bytes(header: _Header, file: BinaryIO) -> int:
    """Where the last sequence ends, as its length and its pointer say."""
    if header.num_sequences == 0:
        return 0
    last = header.num_sequences - 1
    pointers = _HEADER.size + header.num_sequences * _LENGTH_BYTES
    file.seek(_HEADER.size + last * _LENGTH_BYTES)
    (length,) = struct.unpack("<i", file.read(_LENGTH_BYTES))
    file.seek(pointers + last * _POINTER_BYTES)
    (pointer,) = struct.unpack("<q", file.read(_POINTER_BYTES))
    return int(pointer + length * header.token_bytes)
