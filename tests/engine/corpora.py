"""Writes small corpora in Megatron's indexed format, without Megatron."""

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

END_OF_DOCUMENT = 256


def write_corpus(prefix: Path, documents: Sequence[bytes]) -> Path:
    """`prefix`.bin and .idx, as uint16 (Megatron's type 8): bytes, and an end of each document."""
    tokens = [np.append(np.frombuffer(text, np.uint8), END_OF_DOCUMENT) for text in documents]
    lengths = np.array([len(document) for document in tokens], np.int32)
    pointers = np.concatenate([[0], np.cumsum(lengths[:-1], dtype=np.int64) * 2]).astype(np.int64)
    header = struct.pack("<9sQBQQ", b"MMIDIDX\x00\x00", 1, 8, len(tokens), len(tokens) + 1)
    index = [header, lengths.tobytes(), pointers.tobytes()]
    index.append(np.arange(len(tokens) + 1, dtype=np.int64).tobytes())
    Path(f"{prefix}.idx").write_bytes(b"".join(index))
    Path(f"{prefix}.bin").write_bytes(np.concatenate(tokens).astype(np.uint16).tobytes())
    return prefix
