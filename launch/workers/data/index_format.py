"""Megatron's `.idx`: how the tokens of a `.bin` are cut into sequences and documents.

Little-endian: 9 bytes of magic, u64 version 1, u8 type of the tokens, u64 sequences, u64 documents
+ 1, then i32 lengths [sequences] in tokens, i64 pointers [sequences] in bytes, i64 documents
[documents + 1]: the number of sequences before each document's end, from 0
(megatron/core/datasets/indexed_dataset.py). Written in blocks: an index of a billion documents
takes no more memory than one of a thousand. numpy alone.
"""

import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

MAGIC: Final = b"MMIDIDX\x00\x00"
VERSION: Final = 1
HEADER: Final = struct.Struct("<9sQBQQ")
LENGTH_BYTES, POINTER_BYTES, DOCUMENT_BYTES = 4, 8, 8

TOKEN_TYPES: Final[Mapping[int, np.dtype[Any]]] = MappingProxyType(
    {
        1: np.dtype("<u1"),
        2: np.dtype("<i1"),
        3: np.dtype("<i2"),
        4: np.dtype("<i4"),
        5: np.dtype("<i8"),
        6: np.dtype("<f8"),
        7: np.dtype("<f4"),
        8: np.dtype("<u2"),
    }
)
"""Types of tokens by their number in the header."""

MAX_SEQUENCE_TOKENS: Final = 2**31 - 1
"""Lengths are i32: a longer sequence has no place in an index."""

_FIRST_INT32_VOCABULARY: Final = 65_500
_BLOCK: Final = 1 << 20


def token_type(num_ids: int) -> np.dtype[Any]:
    """Return the type that Megatron stores a vocabulary of that many ids in."""
    return TOKEN_TYPES[8 if num_ids < _FIRST_INT32_VOCABULARY else 4]


def write_index(
    index: Path,
    *,
    lengths: Path,
    documents: Path,
    dtype: np.dtype[Any],
) -> None:
    """Write an index, durably, of two plain files: i32 lengths and i64 ends of documents."""
    code = next(code for code, known in TOKEN_TYPES.items() if known == dtype)
    num_sequences = lengths.stat().st_size // LENGTH_BYTES
    num_documents = documents.stat().st_size // DOCUMENT_BYTES
    with index.open("wb") as file:
        file.write(HEADER.pack(MAGIC, VERSION, code, num_sequences, num_documents + 1))
        for block in _blocks(lengths, "<i4"):
            file.write(block.tobytes())
        _write_pointers(file, lengths, dtype.itemsize)
        file.write(bytes(DOCUMENT_BYTES))  # the first document begins at sequence 0
        for block in _blocks(documents, "<i8"):
            file.write(block.tobytes())
        file.flush()
        os.fsync(file.fileno())


def _write_pointers(file: BinaryIO, lengths: Path, token_bytes: int) -> None:
    position = 0
    for block in _blocks(lengths, "<i4"):
        ends = position + np.cumsum(block, dtype=np.int64) * token_bytes
        file.write((ends - block.astype(np.int64) * token_bytes).astype("<i8").tobytes())
        position = int(ends[-1])


def _blocks(path: Path, kind: str) -> Iterator[NDArray[np.integer]]:
    with path.open("rb") as file:
        while (block := np.fromfile(file, dtype=kind, count=_BLOCK)).size:
            yield block
