"""A corpus as its index tells it: mapped, not read.

Opening says whether the index has the size that its header claims; `check` looks at what is in it.
numpy alone.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from launch.workers.data.index_format import (
    DOCUMENT_BYTES,
    HEADER,
    LENGTH_BYTES,
    MAGIC,
    POINTER_BYTES,
    TOKEN_TYPES,
    VERSION,
)

_FOREIGN_VERSION: Final = int.from_bytes(VERSION.to_bytes(8, "big"), "little")
_AGAIN: Final = "copy or make the corpus again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """What an index tells of: the arrays are views of the file."""

    index: Path
    tokens: Path
    dtype: np.dtype[Any]
    lengths: NDArray[np.int32]
    pointers: NDArray[np.int64]
    documents: NDArray[np.int64]

    @property
    def num_documents(self) -> int:
        """Documents; the index holds one more number."""
        return len(self.documents) - 1

    @property
    def num_tokens(self) -> int:
        """Tokens of all sequences."""
        return int(self.lengths.sum(dtype=np.int64))

    def document_of(self, sequence: int) -> int:
        """Return the document that a sequence belongs to, from 0."""
        return int(np.searchsorted(self.documents, sequence, side="right")) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that is not as it must be; `document` is the first that it touches, from 0."""

    path: Path
    problem: str
    instead: str = _AGAIN
    document: int | None = None


def open_corpus(prefix: str) -> Corpus | Fault:
    """Map an index whose size is right."""
    index, tokens = Path(f"{prefix}.idx"), Path(f"{prefix}.bin")
    for path in (index, tokens):
        if not path.is_file():
            return Fault(path=path, problem="there is no such file", instead="a path without .idx")
    size = index.stat().st_size
    with index.open("rb") as file:
        raw = file.read(HEADER.size)
    header = _header(index, raw)
    if isinstance(header, Fault):
        return header
    code, num_sequences, num_documents = header
    wanted = _index_bytes(num_sequences, num_documents)
    if size not in {wanted, wanted + num_sequences}:  # a mode for each sequence may follow
        return _wrong_size(index, size, num_sequences, num_documents)
    data = np.memmap(index, mode="r")
    pointers = HEADER.size + num_sequences * LENGTH_BYTES
    documents = pointers + num_sequences * POINTER_BYTES
    return Corpus(
        index=index,
        tokens=tokens,
        dtype=TOKEN_TYPES[code],
        lengths=np.frombuffer(data, "<i4", num_sequences, HEADER.size),
        pointers=np.frombuffer(data, "<i8", num_sequences, pointers),
        documents=np.frombuffer(data, "<i8", num_documents, documents),
    )


def _header(index: Path, raw: bytes) -> tuple[int, int, int] | Fault:
    if len(raw) < HEADER.size:
        problem = f"{len(raw)} bytes: ends in its header" if raw else "is empty"
        return Fault(path=index, problem=problem)
    magic, version, code, num_sequences, num_documents = HEADER.unpack(raw)
    if magic != MAGIC:
        return Fault(path=index, problem="is not an index of Megatron's format")
    fault = _version_fault(index, version)
    if fault is not None:
        return fault
    if code not in TOKEN_TYPES:
        known = f"1 to {max(TOKEN_TYPES)}"
        return Fault(path=index, problem=f"its tokens are of type {code}, and {known} are known")
    if num_documents == 0:
        return Fault(path=index, problem="its list of documents lacks even the 0 that begins it")
    return code, num_sequences, num_documents


def _version_fault(index: Path, version: int) -> Fault | None:
    if version == _FOREIGN_VERSION:
        return Fault(
            path=index,
            problem="is big-endian: it was written on a machine of another byte order",
            instead="make the corpus again on a little-endian machine (x86-64, arm64)",
        )
    if version != VERSION:
        return Fault(path=index, problem=f"is of version {version}, and {VERSION} is known")
    return None


def _index_bytes(num_sequences: int, num_documents: int) -> int:
    per_sequence = LENGTH_BYTES + POINTER_BYTES
    return HEADER.size + num_sequences * per_sequence + num_documents * DOCUMENT_BYTES


def _wrong_size(index: Path, size: int, num_sequences: int, num_documents: int) -> Fault:
    """A file that was cut: the ends of its documents come last, so they say what is gone."""
    wanted = _index_bytes(num_sequences, num_documents)
    problem = (
        f"{size:,} bytes, and {num_sequences:,} sequences in {num_documents - 1:,} documents "
        f"take {wanted:,}"
    )
    left = (size - (wanted - num_documents * DOCUMENT_BYTES)) // DOCUMENT_BYTES
    lost = max(0, left - 1) if size < wanted else None
    return Fault(path=index, problem=problem, document=lost)
