"""A corpus in the making: appended chunk by chunk beside its final name, and resumable.

`PREFIX.building/` holds `tokens`, `lengths` and `documents`, plain numbers that only grow, and
`progress.jsonl`: a line for each chunk that is in them, with its checksum and the sizes after it.
A build goes on behind the last chunk whose line, bytes and input are all still as they were:
whatever a kill, a full disk or a power failure left after that is cut off. Only a whole corpus gets
the names `PREFIX.bin` and `PREFIX.idx`, the index last: without it there is no corpus.
"""

import fcntl
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from launch.workers.data.chunks import Chunk
from launch.workers.data.counts import Counts
from launch.workers.data.encode import EncodedChunk
from launch.workers.data.index_format import DOCUMENT_BYTES, write_index
from orchestrator.errors import StorageError, UsageError

_NUMBERS: Final = ("tokens", "lengths", "documents")
_CHECKED_BYTES: Final = 1 << 22


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A chunk that is in the files: which, what it was made of, and the files' sizes after it."""

    path: str
    start: int
    end: int
    source_crc: int
    sizes: tuple[int, int, int]  # of tokens, lengths, documents
    crc: int
    num_skipped: int  # so far

    def is_of(self, chunk: Chunk) -> bool:
        """Whether the entry is about that chunk."""
        return (self.path, self.start, self.end) == (chunk.path, chunk.start, chunk.end)


class BuildFolder:
    """The files of a corpus in the making; one process has them at a time."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.path = Path(f"{prefix}.building")
        self.entries: list[Entry] = []
        self._files: list[BinaryIO] = []
        self._progress: BinaryIO | None = None
        self._lock: BinaryIO | None = None

    @property
    def num_skipped(self) -> int:
        """Documents that were left out."""
        return self.entries[-1].num_skipped if self.entries else 0

    def open(self) -> None:
        """Take the folder, and cut off what is not whole.

        Raises:
            UsageError: another process has it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = (self.path / "lock").open("wb")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(problem=f"{self.path}: another process builds this corpus") from None
        self._take_names_back()
        self.entries = _whole(self.path, _read_entries(self.path / "progress.jsonl"))
        self._files = [_appending(self.path / name) for name in _NUMBERS]
        self._progress = _appending(self.path / "progress.jsonl")
        self.keep(len(self.entries))

    def keep(self, num_chunks: int) -> None:
        """Cut everything behind the first chunks off."""
        self.entries = self.entries[:num_chunks]
        sizes = self._sizes()
        for file, size in zip(self._files, sizes, strict=True):
            file.truncate(size)
        assert self._progress is not None  # noqa: S101  opened
        self._progress.truncate(0)
        self._progress.write(b"".join(_line(entry) for entry in self.entries))
        self._progress.flush()

    def append(self, encoded: EncodedChunk) -> None:
        """Add a chunk; one that cannot be written whole is not there.

        Raises:
            OSError: the disk takes no more.
        """
        before = self._sizes()
        num_sequences = before[1] // 4
        arrays = (
            encoded.tokens,
            encoded.lengths.astype("<i4"),
            (encoded.document_ends + num_sequences).astype("<i8"),
        )
        crc = 0
        for file, array in zip(self._files, arrays, strict=True):
            view = np.ascontiguousarray(array).view(np.uint8).data
            crc = zlib.crc32(view, crc)
            file.write(view)
            file.flush()
        entry = Entry(
            path=encoded.chunk.path,
            start=encoded.chunk.start,
            end=encoded.chunk.end,
            source_crc=encoded.source_crc,
            sizes=(
                before[0] + arrays[0].nbytes,
                before[1] + arrays[1].nbytes,
                before[2] + arrays[2].nbytes,
            ),
            crc=crc,
            num_skipped=self.num_skipped + encoded.num_skipped,
        )
        assert self._progress is not None  # noqa: S101  opened
        self._progress.write(_line(entry))
        self._progress.flush()
        self.entries.append(entry)

    def finish(self, dtype: np.dtype[Any], note: Callable[[Counts], dict[str, Any]]) -> Counts:
        """Give the corpus its names, the index last, and remove the folder."""
        for file in self._files:
            os.fsync(file.fileno())
        index, kept_note = self.path / "index", self.path / "note"
        write_index(
            index, lengths=self.path / "lengths", documents=self.path / "documents", dtype=dtype
        )
        tokens_bytes, _, documents_bytes = self._sizes()
        counts = Counts(
            num_documents=documents_bytes // DOCUMENT_BYTES,
            num_tokens=tokens_bytes // dtype.itemsize,
        )
        kept_note.write_text(json.dumps(note(counts), indent=2) + "\n")
        (self.path / "tokens").rename(f"{self.prefix}.bin")
        kept_note.rename(f"{self.prefix}.json")
        index.rename(f"{self.prefix}.idx")
        _sync_folder(self.path.parent)
        self.close()
        shutil.rmtree(self.path, ignore_errors=True)
        return counts

    def close(self) -> None:
        """Let go of the files; what they hold stays for the next attempt."""
        for file in (*self._files, self._progress, self._lock):
            if file is not None:
                with suppress(OSError):  # a full disk, once more
                    file.close()
        self._files, self._progress, self._lock = [], None, None

    def _sizes(self) -> tuple[int, int, int]:
        return self.entries[-1].sizes if self.entries else (0, 0, 0)

    def _take_names_back(self) -> None:
        """Undo the renames of an attempt that ended between them."""
        named, tokens = Path(f"{self.prefix}.bin"), self.path / "tokens"
        if named.exists() and (self.path / "index").exists() and not tokens.exists():
            named.rename(tokens)


def require_room(prefix: str) -> None:
    """Refuse to put a corpus where another one is.

    Raises:
        StorageError: there is one.
    """
    index, tokens = Path(f"{prefix}.idx"), Path(f"{prefix}.bin")
    is_unfinished = Path(f"{prefix}.building").exists()  # a kill came between the two names
    if index.exists() or (tokens.exists() and not is_unfinished):
        raise StorageError(
            path=str(index if index.exists() else tokens),
            problem="is there already, made of something else",
            instead="remove it, or choose another name for the new corpus",
        )


def _read_entries(progress: Path) -> Iterator[Entry]:
    """The lines of a progress file up to the first that is not whole."""
    try:
        lines = progress.read_bytes().split(b"\n")[:-1]  # what follows the last newline is torn
    except FileNotFoundError:
        return
    for line in lines:
        try:
            found = json.loads(line)
            yield Entry(**{**found, "sizes": tuple(found["sizes"])})
        except (ValueError, TypeError, KeyError):
            return


def _whole(folder: Path, entries: Iterator[Entry]) -> list[Entry]:
    """The entries whose bytes are in the files, up to the first whose are not."""
    whole: list[Entry] = []
    before = (0, 0, 0)
    with suppress(FileNotFoundError), ExitStack() as stack:
        files = [stack.enter_context((folder / name).open("rb")) for name in _NUMBERS]
        for entry in entries:
            crc = 0
            for file, start, end in zip(files, before, entry.sizes, strict=True):
                crc = _crc(file, end - start, crc)
            if crc != entry.crc:
                break
            whole.append(entry)
            before = entry.sizes
    return whole


def _crc(file: BinaryIO, size: int, crc: int) -> int:
    while size > 0 and (data := file.read(min(size, _CHECKED_BYTES))):
        crc, size = zlib.crc32(data, crc), size - len(data)
    return crc if size == 0 else crc ^ 1  # cut short: never equal by accident


def _appending(path: Path) -> BinaryIO:
    return path.open("ab")


def _line(entry: Entry) -> bytes:
    return json.dumps(asdict(entry)).encode() + b"\n"


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
