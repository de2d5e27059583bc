"""What `llmorch data tokenize` does around the making: progress, Ctrl-C, the answer."""

import os
from typing import Any

from launch.workers.data.chunks import TextUnit
from launch.workers.data.tokenize import Tokenized, TokenizeOrder, tokenize
from orchestrator.cli.progress import reading
from orchestrator.errors import Interrupted, UsageError, nearest

SCHEMA = 1


def text_unit_of(word: str) -> TextUnit:
    """Return what a document of a text file is.

    Raises:
        UsageError: there is no such unit.
    """
    if word not in set(TextUnit):
        problem = f"--text-unit {word}: no such unit"
        raise UsageError(problem=problem, instead=nearest(word, list(TextUnit)))
    return TextUnit(word)


def num_processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))


def made(order: TokenizeOrder) -> Tokenized:
    """Make the corpus, with a bar where there is a terminal.

    Raises:
        LlmorchError: see `tokenize`; Ctrl-C is one, and what is done stays.
    """
    try:
        with reading("tokenizing") as tell:
            return tokenize(order, lambda how: tell(how.done_bytes, how.total_bytes))
    except KeyboardInterrupt:
        what = "interrupted; what is done stays, and the same command goes on with it"
        raise Interrupted(what=what) from None


def document(made: Tokenized, *, prefix: str) -> dict[str, Any]:
    """Return the answer as JSON."""
    return {
        "schema": SCHEMA,
        "prefix": prefix,
        "documents": made.counts.num_documents,
        "tokens": made.counts.num_tokens,
        "dtype": made.dtype,
        "end_of_document": made.end_of_document,
        "skipped_documents": made.num_skipped,
        "resumed_parts": made.num_resumed,
        "was_there": made.was_there,
    }


def picture(made: Tokenized, *, prefix: str) -> str:
    """Return the answer in words."""
    counts = made.counts
    end = "nothing" if made.end_of_document is None else f"token {made.end_of_document}"
    what = f"{counts.num_documents:,} documents, {counts.num_tokens:,} tokens ({made.dtype})"
    lines = [f"{prefix}: {what}; documents end in {end}"]
    if made.was_there:
        lines.append("it was there already, made of the same")
    if made.num_resumed:
        lines.append(f"went on behind {made.num_resumed:,} parts of an earlier attempt")
    if made.num_skipped:
        lines.append(f"{made.num_skipped:,} broken documents were left out")
    return "\n".join(lines)
