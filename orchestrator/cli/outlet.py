"""A stream that never makes its writer wait: what nobody reads is dropped, and that is said.

A controller that waited for its reader (`| less`, Ctrl-S) would be silent to its agents, who kill
their ranks after a lease. So its words go into a queue of bounded size, which a thread hands on.
When the queue is full, what comes is dropped until the reader has had all of it; then he is told
how many lines he missed. A reader who has gone is told nothing more.
"""

import io
import os
import select
import threading
from collections import deque

from typing_extensions import Buffer, override

LIMIT_BYTES = 1 << 16


class ReaderGone(Exception):
    """Whoever read the results (`| head`) has gone: no error, and nothing more to show.

    No OSError, as those end a command in Typer's own way, with 1.
    """


class Outlet(io.BufferedIOBase):
    """Writes to a descriptor in a thread of its own; `drain` when all is said."""

    name = "talk"

    def __init__(self, descriptor: int, *, limit_bytes: int = LIMIT_BYTES) -> None:
        self._descriptor = descriptor
        self._limit_bytes = limit_bytes
        self._waiting: deque[bytes] = deque()
        self._num_waiting_bytes = 0
        self._num_bytes_in_hand = 0
        self._num_dropped_lines = 0
        self._is_dropping = False
        self._is_ending = False
        self._changed = threading.Condition()
        # A daemon, as it may wait for its reader when the program ends.
        self._deliverer = threading.Thread(target=self._deliver, daemon=True, name="llmorch-talk")
        self._deliverer.start()

    @override
    def writable(self) -> bool:
        return True

    @override
    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    @override
    def write(self, data: Buffer, /) -> int:
        piece = bytes(data)
        with self._changed:
            if self._is_dropping or self._num_waiting_bytes + len(piece) > self._limit_bytes:
                self._is_dropping = True
                self._num_dropped_lines += piece.count(b"\n")
            else:
                self._waiting.append(piece)
                self._num_waiting_bytes += len(piece)
            self._changed.notify_all()
        return len(piece)

    def drain(self, *, within_s: float) -> None:
        """Give the reader that long to read the rest."""
        with self._changed:
            self._is_ending = True
            self._changed.notify_all()
        self._deliverer.join(within_s)

    def _deliver(self) -> None:
        try:
            while piece := self._next():
                self._put(piece)
                with self._changed:
                    self._num_waiting_bytes -= self._num_bytes_in_hand
        except OSError:
            self._forget_reader()

    def _next(self) -> bytes:
        """The next piece, or what to say of those that were dropped; empty at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_dropping or self._is_ending)
            if self._waiting:
                piece = self._waiting.popleft()
                self._num_bytes_in_hand = len(piece)
                return piece
            self._num_bytes_in_hand = 0  # a confession takes no room from what comes after it
            return self._confession() if self._is_dropping else b""

    def _confession(self) -> bytes:
        said = f"[left out: {self._num_dropped_lines} lines that nobody read in time]\n".encode()
        self._is_dropping, self._num_dropped_lines = False, 0
        return said

    def _put(self, piece: bytes) -> None:
        rest = memoryview(piece)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:  # whoever shares the terminal may have made it so
                select.select([], [self._descriptor], [])

    def _forget_reader(self) -> None:
        with self._changed:
            self._limit_bytes = -1
            self._waiting.clear()
