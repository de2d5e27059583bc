"""What commands write on: results to stdout, talk to stderr, tables that fit 100 columns."""

import io
import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from typing_extensions import override

from orchestrator.cli.outlet import Outlet, ReaderGone

MAX_COLUMNS = 100
_LAST_WORDS_S = 10.0


class _Screen(Console):
    """A console that leaves it to the command what it means that its reader has gone."""

    @override
    def on_broken_pipe(self) -> None:
        self.quiet = True
        if not self.stderr:
            raise ReaderGone


def results() -> Console:
    """Return the console for results: stdout, plain where it is not a terminal."""
    return _Screen(width=_columns(), highlight=False, soft_wrap=False)


def talk() -> Console:
    """Return the console for everything that is not a result: stderr."""
    return _Screen(stderr=True, width=_columns(), highlight=False)


@contextmanager
def unhurried_talk() -> Iterator[Console]:
    """Yield a console on stderr that never waits for whoever reads it, or does not."""
    outlet = Outlet(sys.stderr.fileno())
    stream = io.TextIOWrapper(
        outlet, encoding=sys.stderr.encoding, errors="backslashreplace", write_through=True
    )
    try:
        yield Console(file=stream, width=_columns(), highlight=False)
    finally:
        outlet.drain(within_s=_LAST_WORDS_S)


def print_json(document: Mapping[str, Any]) -> None:
    """Write a document to stdout as JSON, one trailing newline."""
    try:
        sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise ReaderGone from None


def _columns() -> int:
    if not sys.stdout.isatty():
        return MAX_COLUMNS
    return min(MAX_COLUMNS, shutil.get_terminal_size().columns)
