"""Writes documents as bytes through Megatron's own builder of indexed datasets."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np
from megatron.core.datasets.indexed_dataset import IndexedDatasetBuilder

from launch.workers.data.counts import Counts

END_OF_DOCUMENT: Final = 256


def write_documents(prefix: Path, documents: Iterable[bytes]) -> Counts:
    """Write `prefix`.bin and .idx: each document its bytes and an end of document, as uint16."""
    builder = IndexedDatasetBuilder(f"{prefix}.bin", dtype=np.uint16)
    num_documents = num_tokens = 0
    for text in documents:
        tokens = np.append(np.frombuffer(text, np.uint8), np.uint16(END_OF_DOCUMENT))
        builder.add_document(tokens, [tokens.size])
        num_documents += 1
        num_tokens += tokens.size
    builder.finalize(f"{prefix}.idx")
    return Counts(num_documents=num_documents, num_tokens=num_tokens)
