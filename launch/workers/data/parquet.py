"""Texts of a Parquet file's column, one row group at a time; needs `pyarrow` (extra `data`)."""

from collections.abc import Iterator
from typing import Any

from orchestrator.errors import InvalidFile, Problem, UsageError


class ParquetError(Exception):
    """A row group gives no texts; the message says why."""


def num_row_groups(path: str) -> int:
    """Return how many row groups a Parquet file has."""
    return int(_opened(path).metadata.num_row_groups)


def column_values(path: str, *, group: int, column: str) -> Iterator[object]:
    """Yield a row group's values of a column: texts, lists of texts, or None.

    Raises:
        ParquetError: there is no such column, or the group cannot be read.
    """
    file = _opened(path)
    names = file.schema_arrow.names
    if column not in names:
        msg = f"has no column '{column}'; it has {', '.join(names)}"
        raise ParquetError(msg)
    try:
        values = file.read_row_group(group, columns=[column]).column(column).to_pylist()
    except (OSError, ValueError) as error:  # ArrowInvalid is a ValueError
        msg = f"cannot be read: {error}"
        raise ParquetError(msg) from error
    yield from values


def _opened(path: str) -> Any:  # noqa: ANN401 - pyarrow has no types
    try:
        from pyarrow import ArrowInvalid, parquet
    except ImportError:
        raise UsageError(
            problem=f"{path}: reading Parquet needs pyarrow", instead="pip install 'llmorch[data]'"
        ) from None
    try:
        return parquet.ParquetFile(path)
    except ArrowInvalid as error:
        problem = Problem(key="", message=f"not a whole Parquet file: {error}")
        raise InvalidFile(file=path, problems=[problem]) from error
