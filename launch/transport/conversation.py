"""Commands that answer line by line: each line is handed on when it arrives, with a deadline."""

import os
import selectors
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from typing import IO

from launch.clock import SystemClock
from launch.transport.commands import CommandAnswer

_CHUNK_BYTES = 65_536


def converse(
    argv: Sequence[str], *, text: str, timeout_s: float, heard: Callable[[str], None]
) -> CommandAnswer:
    """Run a command with `text` on its standard input; call `heard` with each line it writes.

    It is killed when the time is over or when `heard` raises. `out` of the answer is everything
    it wrote, `exit_code` None where it was killed.
    """
    ends_s = SystemClock().monotonic_s() + timeout_s
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as errors:
        # Files, not pipes: neither side can block the other while both write.
        said.write(text.encode())
        said.seek(0)
        listening = _Listening(heard)
        with subprocess.Popen(
            list(argv), stdin=said, stdout=subprocess.PIPE, stderr=errors
        ) as process:
            try:
                assert process.stdout is not None  # noqa: S101  it is a pipe
                listening.to_the_end(process.stdout, ends_s=ends_s)
                code: int | None = process.wait(timeout=_left_s(ends_s))
            except subprocess.TimeoutExpired:
                code = None
            finally:
                process.kill()  # nothing happens to one that has ended
        errors.seek(0)
        error = errors.read().decode(errors="replace")
    return CommandAnswer(exit_code=code, out=listening.out, err=error)


class _Listening:
    """Cuts what arrives into lines."""

    def __init__(self, heard: Callable[[str], None]) -> None:
        self._heard = heard
        self._written = b""
        self._told = 0

    @property
    def out(self) -> str:
        return self._written.decode(errors="replace")

    def to_the_end(self, pipe: IO[bytes], *, ends_s: float) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            while selector.select(timeout=_left_s(ends_s)):
                read = os.read(pipe.fileno(), _CHUNK_BYTES)
                if not read:
                    return
                self._take(read)
        raise subprocess.TimeoutExpired(cmd="", timeout=0)

    def _take(self, read: bytes) -> None:
        self._written += read
        end = self._written.find(b"\n", self._told)
        while end >= 0:
            self._heard(self._written[self._told : end].decode(errors="replace"))
            self._told = end + 1
            end = self._written.find(b"\n", self._told)


def _left_s(ends_s: float) -> float:
    return max(0.0, ends_s - SystemClock().monotonic_s())
