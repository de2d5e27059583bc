"""What commands write on: results to stdout, talk to stderr, tables that fit 100 columns."""

import json
import shutil
import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console

MAX_COLUMNS = 100


def results() -> Console:
    """Return the console for results: stdout, plain where it is not a terminal."""
    return Console(width=_columns(), highlight=False, soft_wrap=False)


def talk() -> Console:
    """Return the console for everything that is not a result: stderr."""
    return Console(stderr=True, width=_columns(), highlight=False)


def print_json(document: Mapping[str, Any]) -> None:
    """Write a document to stdout as JSON, one trailing newline."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def _columns() -> int:
    if not sys.stdout.isatty():
        return MAX_COLUMNS
    return min(MAX_COLUMNS, shutil.get_terminal_size().columns)
