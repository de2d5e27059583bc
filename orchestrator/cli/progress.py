"""Progress of long work, drawn on stderr where it is a terminal and silent where it is not."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from orchestrator.cli.screen import talk


@contextmanager
def counting(what: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function that is told (done, total); the bar goes away at the end."""
    with _drawn(what, MofNCompleteColumn(), TimeElapsedColumn()) as tell:
        yield tell


@contextmanager
def reading(what: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function that is told (done, total) bytes: also speed and time left are shown."""
    columns = (DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with _drawn(what, *columns) as tell:
        yield tell


@contextmanager
def _drawn(what: str, *columns: ProgressColumn) -> Iterator[Callable[[int, int], None]]:
    console = talk()
    with Progress(
        TextColumn(what),
        BarColumn(),
        *columns,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
