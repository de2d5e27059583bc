"""Whether a corpus is whole, with numpy alone: the first broken document is named.

What passes here opens in Megatron and reads to its last token. The index is looked at in blocks, so
that its size does not matter; tokens are read when their values are asked about.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from launch.workers.data.corpus import Corpus, Fault, open_corpus

_BLOCK: Final = 1 << 20
_TOKEN_BLOCK: Final = 1 << 22


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What tokens are to be like; None where it does not matter."""

    vocab_size: int | None = None
    end_of_document: int | None = None

    @property
    def is_about_tokens(self) -> bool:
        """Whether the tokens themselves have to be read."""
        return self.vocab_size is not None or self.end_of_document is not None


def check(prefix: str, question: Question) -> Corpus | Fault:
    """Return a corpus that is whole, or the first fault."""
    opened = open_corpus(prefix)
    if isinstance(opened, Fault):
        return opened
    for faults in (_index_faults(opened), _token_faults(opened, question)):
        if (fault := next(faults, None)) is not None:
            return fault
    return opened


def _index_faults(corpus: Corpus) -> Iterator[Fault]:
    """Yield what is wrong in the index, by itself and against the size of the tokens."""
    num_sequences = len(corpus.lengths)
    if num_sequences == 0:
        yield Fault(path=corpus.index, problem="has no sequences: there is nothing to train on")
        return
    yield from _document_faults(corpus)
    position, size = 0, corpus.tokens.stat().st_size
    for start in range(0, num_sequences, _BLOCK):
        lengths = corpus.lengths[start : start + _BLOCK].astype(np.int64)
        ends = position + np.cumsum(lengths * corpus.dtype.itemsize)
        starts = ends - lengths * corpus.dtype.itemsize
        pointers = corpus.pointers[start : start + _BLOCK]
        wrong = np.flatnonzero((lengths < 0) | (pointers != starts) | (ends > size))
        if wrong.size:
            at = int(wrong[0])
            yield _sequence_fault(corpus, start + at, start_byte=int(starts[at]), size=size)
            return
        position = int(ends[-1])
    if position != size:
        problem = f"{size:,} bytes, and its index tells of {position:,}"
        yield Fault(path=corpus.tokens, problem=problem)


def _document_faults(corpus: Corpus) -> Iterator[Fault]:
    documents, num_sequences = corpus.documents, len(corpus.lengths)
    if documents[0] != 0:
        problem = f"document 1 begins at sequence {documents[0]}, not at 0"
        yield Fault(path=corpus.index, problem=problem, document=0)
    for start in range(0, len(documents) - 1, _BLOCK):
        block = documents[start : start + _BLOCK + 1]
        wrong = np.flatnonzero((np.diff(block) < 0) | (block[1:] > num_sequences))
        if wrong.size:
            at = start + int(wrong[0])
            problem = f"ends at sequence {documents[at + 1]:,} of {num_sequences:,}, and begins at "
            problem += f"{documents[at]:,}"
            yield Fault(path=corpus.index, problem=problem, document=at)
            return
    if documents[-1] != num_sequences:
        problem = f"its last document ends at sequence {documents[-1]:,} of {num_sequences:,}"
        yield Fault(path=corpus.index, problem=problem, document=len(documents) - 2)


def _sequence_fault(corpus: Corpus, sequence: int, *, start_byte: int, size: int) -> Fault:
    length, pointer = int(corpus.lengths[sequence]), int(corpus.pointers[sequence])
    document = corpus.document_of(sequence)
    if length < 0:
        problem = f"sequence {sequence + 1:,} has {length:,} tokens"
        return Fault(path=corpus.index, problem=problem, document=document)
    if pointer != start_byte:
        problem = f"sequence {sequence + 1:,} begins at byte {pointer:,}, and those before it end "
        problem += f"at {start_byte:,}"
        return Fault(path=corpus.index, problem=problem, document=document)
    problem = f"{size:,} bytes: sequence {sequence + 1:,} ends at byte "
    problem += f"{start_byte + length * corpus.dtype.itemsize:,}"
    return Fault(path=corpus.tokens, problem=problem, document=document)


def _token_faults(corpus: Corpus, question: Question) -> Iterator[Fault]:
    if not question.is_about_tokens:
        return
    tokens = np.memmap(corpus.tokens, corpus.dtype, mode="r")
    if question.vocab_size is not None:
        yield from _range_faults(corpus, tokens, question.vocab_size)
    if question.end_of_document is not None:
        yield from _end_faults(corpus, tokens, question.end_of_document)


def _range_faults(corpus: Corpus, tokens: NDArray[np.integer], vocab_size: int) -> Iterator[Fault]:
    for start in range(0, len(tokens), _TOKEN_BLOCK):
        block = tokens[start : start + _TOKEN_BLOCK]
        wrong = np.flatnonzero((block < 0) | (block >= vocab_size))
        if wrong.size:
            at = start + int(wrong[0])
            byte = at * corpus.dtype.itemsize
            sequence = int(np.searchsorted(corpus.pointers, byte, side="right")) - 1
            yield Fault(
                path=corpus.tokens,
                problem=f"token {int(tokens[at])} at byte {byte:,}, and the vocabulary is "
                f"{vocab_size:,}",
                instead="use the tokenizer of the model, or a model with that vocabulary",
                document=corpus.document_of(sequence),
            )
            return


def _end_faults(corpus: Corpus, tokens: NDArray[np.integer], end: int) -> Iterator[Fault]:
    for start in range(0, corpus.num_documents, _BLOCK):
        bounds = corpus.documents[start : start + _BLOCK + 1]
        has_tokens = np.diff(bounds) > 0
        last = bounds[1:][has_tokens] - 1
        at = corpus.pointers[last] // corpus.dtype.itemsize + corpus.lengths[last] - 1
        wrong = np.flatnonzero(tokens[at] != end)
        if wrong.size:
            document = start + int(np.flatnonzero(has_tokens)[wrong[0]])
            found = int(tokens[at[wrong[0]]])
            yield Fault(
                path=corpus.tokens,
                problem=f"ends in token {found}, not in {end}",
                instead="data.end_of_document names the token that the corpus was made with",
                document=document,
            )
            return
