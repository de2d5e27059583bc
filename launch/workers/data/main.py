"""Entry point of `llmorch-data-worker`: prepares a corpus and says what it holds."""

import argparse
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from launch.workers.data.prepare import Recipe, Source, prepare
from orchestrator.errors import ExitCode, LlmorchError

DEFAULT_LIMIT_BYTES = 8_000_000


def main() -> None:
    """Prepare the corpus that the command line asks for."""
    sys.exit(run(sys.argv[1:]))


def run(words: Sequence[str]) -> ExitCode:
    """Prepare a corpus; prints its counts."""
    parser = argparse.ArgumentParser(
        prog="llmorch-data-worker", description="Make a corpus in Megatron's indexed format."
    )
    parser.add_argument("--prefix", type=Path, required=True, help="its path without .bin")
    parser.add_argument("--source", type=Source, choices=list(Source), default=Source.STDLIB)
    parser.add_argument("--limit-bytes", type=_positive, default=DEFAULT_LIMIT_BYTES, metavar="N")
    given = parser.parse_args(words)
    recipe = Recipe(
        source=given.source,
        limit_bytes=given.limit_bytes,
        python=platform.python_version(),
    )
    try:
        counts = prepare(given.prefix, recipe)
    except LlmorchError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(
        f"{given.prefix}: {counts.num_documents:,} documents, {counts.num_tokens:,} tokens\n"
    )
    return ExitCode.OK


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is below 1")  # noqa: TRY003, EM102
    return number
