"""One chunk, tokenised: what a worker process does, and all that it returns."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection

import numpy as np
from numpy.typing import NDArray

from launch.workers.data.chunks import Chunk, InputFormat
from launch.workers.data.documents import (
    BadDocument,
    Block,
    Document,
    block_of,
    documents_in,
    rows_of,
)
from launch.workers.data.index_format import MAX_SEQUENCE_TOKENS
from launch.workers.data.tokenizer import Encoded, Tokenizer, TokenizerChoice, tokenizer_of
from launch.workers.report import die_with_parent

_BATCH_CHARACTERS = 1 << 20  # what a tokenizer holds of a text is a hundred times the text


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedChunk:
    """Tokens, lengths of sequences, and how many sequences there are up to each document's end."""

    chunk: Chunk
    source_crc: int
    tokens: NDArray[np.integer]
    lengths: NDArray[np.int32]
    document_ends: NDArray[np.int64]
    num_skipped: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenChunk:
    """A chunk with a document that cannot be tokenised, the first of them."""

    chunk: Chunk
    bad: BadDocument


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeOrder:
    """What every chunk is tokenised with."""

    choice: TokenizerChoice
    key: str
    skips: bool


class Encoder:
    """Tokenises chunks with a tokenizer that is loaded once."""

    def __init__(self, order: EncodeOrder) -> None:
        self._order = order
        self._tokenizer = tokenizer_of(order.choice)

    def encode(self, chunk: Chunk) -> EncodedChunk | BrokenChunk:
        """Return a chunk's tokens, or its first document that has none."""
        is_parquet = chunk.format is InputFormat.PARQUET
        block = Block(data=b"", start=0) if is_parquet else block_of(chunk)
        key, num_skipped = self._order.key, 0
        documents: list[Document] = []
        for found in rows_of(chunk, key=key) if is_parquet else documents_in(block, chunk, key=key):
            if isinstance(found, Document):
                documents.append(found)
            elif self._order.skips:
                num_skipped += 1
            else:
                return BrokenChunk(chunk=chunk, bad=found)
        parts = [self._tokenizer.encode(texts) for texts in _batches(documents)]
        return _assembled(
            _joined(parts, self._tokenizer),
            documents,
            chunk=chunk,
            block=block,
            num_skipped=num_skipped,
            end_of_document=self._tokenizer.end_of_document,
        )


def serve(pipe: Connection, order: EncodeOrder) -> None:
    """Tokenise chunks as they come through a pipe, until it closes.

    The process dies with its parent and leaves Ctrl-C to it; a file that cannot be read is an
    answer like others.
    """
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes are the parallelism
    encoder = Encoder(order)
    with suppress(EOFError, BrokenPipeError):
        while True:
            chunk = pipe.recv()
            try:
                answer: EncodedChunk | BrokenChunk | OSError = encoder.encode(chunk)
            except OSError as error:
                answer = error
            pipe.send(answer)


def too_long(lengths: NDArray[np.int64]) -> int | None:
    """Return which sequence is the first with more tokens than an index can say."""
    found = np.flatnonzero(lengths > MAX_SEQUENCE_TOKENS)
    return int(found[0]) if found.size else None


def _batches(documents: list[Document]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for document in documents:
        batch.extend(document.texts)
        size += sum(map(len, document.texts))
        if size >= _BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _joined(parts: list[Encoded], tokenizer: Tokenizer) -> Encoded:
    tokens = [part.tokens for part in parts]
    counts = [part.counts for part in parts]
    return Encoded(
        tokens=np.concatenate(tokens) if tokens else np.empty(0, tokenizer.dtype),
        counts=np.concatenate(counts) if counts else np.empty(0, np.int64),
    )


def _assembled(
    encoded: Encoded,
    documents: list[Document],
    *,
    chunk: Chunk,
    block: Block,
    num_skipped: int,
    end_of_document: int | None,
) -> EncodedChunk | BrokenChunk:
    """Put ends of documents between the tokens, and drop sequences that are empty."""
    text_ends = np.cumsum([len(document.texts) for document in documents], dtype=np.int64)
    before = _from_zero(np.cumsum(encoded.counts))
    is_kept = encoded.counts > 0
    lengths = encoded.counts[is_kept]
    document_ends = _from_zero(np.cumsum(is_kept))[text_ends]
    tokens = encoded.tokens
    if end_of_document is not None:
        has_tokens = np.diff(before[_from_zero(text_ends)]) > 0
        lengths[document_ends[has_tokens] - 1] += 1
        tokens = np.insert(tokens, before[text_ends[has_tokens]], end_of_document)
    if (sequence := too_long(lengths)) is not None:
        of = documents[int(np.searchsorted(document_ends, sequence, side="right"))]
        problem = (
            f"has {lengths[sequence]:,} tokens, and an index holds at most "
            f"{MAX_SEQUENCE_TOKENS:,} a sequence (32 bits): split it"
        )
        return BrokenChunk(chunk=chunk, bad=BadDocument(at=of.at, problem=problem))
    return EncodedChunk(
        chunk=chunk,
        source_crc=block.crc,
        tokens=tokens,
        lengths=lengths.astype(np.int32),
        document_ends=document_ends.astype(np.int64),
        num_skipped=num_skipped,
    )


def _from_zero(sums: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate(([0], sums)).astype(np.int64)
