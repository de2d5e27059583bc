"""Reading and writing users' files, with errors that say what happened to which."""

import errno
from contextlib import suppress
from pathlib import Path

from orchestrator.errors import InvalidFile, Problem, StorageError

_REASONS = {
    errno.ENOENT: "there is no such file",
    errno.EISDIR: "is a folder, not a file",
    errno.ENOTDIR: "a part of the path is not a folder",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.ENOSPC: "the disk is full",
    errno.EROFS: "the file system is read-only",
}


def text_of(path: Path) -> str:
    """Return the text of a user's file.

    Raises:
        InvalidFile: it is missing, unreadable or not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        problem = Problem(key="", message=f"is not UTF-8 text (byte {error.start})")
        raise InvalidFile(file=str(path), problems=[problem]) from error
    except OSError as error:
        problem = Problem(key="", message=reason_of(error), possible=_neighbours(path))
        raise InvalidFile(file=str(path), problems=[problem]) from error


def write_text(path: Path, text: str) -> None:
    """Write a user's file whole: a reader sees the old text or the new, never half.

    A symbolic link is written through. Whatever is no regular file (a folder, /dev/null) is
    refused: putting a file in its place would destroy it.

    Raises:
        StorageError: the disk is full, there is no permission, the folder is absent.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        raise StorageError(path=str(path), problem="is there and is not a regular file")
    if not path.parent.is_dir():
        raise StorageError(path=str(path), problem=f"there is no folder {path.parent}")
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise StorageError(path=str(path), problem=reason_of(error)) from error


def reason_of(error: OSError) -> str:
    """Return an operating system's error in plain words."""
    return _REASONS.get(error.errno or 0, error.strerror or str(error))


def _neighbours(path: Path) -> str:
    if path.exists() or not path.parent.is_dir():
        return ""
    beside = sorted(file.name for file in path.parent.glob("*.yaml"))
    return f"beside it: {', '.join(beside[:5])}" if beside else ""
