"""One ssh process under the reactor: told everything at once, listened to until it ends."""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from launch.transport.many import in_memory
from launch.transport.processes import (
    ExitStatus,
    ProcessOrder,
    kill_group,
    start_dependent,
    start_independent,
)
from launch.transport.reactor import Reactor, read_available

_MOST_KEPT_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOrder:
    """What runs, what it reads, the line by which it says that it is there, and its log.

    One that `outlives` us goes on when we end; the others die with us.
    """

    argv: tuple[str, ...]
    text: bytes
    greeting: str
    log: Path
    outlives: bool = False


class Session:
    """An ssh process; `on_end` is told its last line."""

    def __init__(
        self,
        order: SessionOrder,
        *,
        reactor: Reactor,
        on_greeting: Callable[[], None],
        on_end: Callable[[ExitStatus, str], None],
    ) -> None:
        self._order = order
        self._reactor = reactor
        self._on_greeting = on_greeting
        self._on_end = on_end
        self._rest = b""
        self._last_line = ""
        self._has_ended = False
        self._output, theirs = os.pipe()
        text = in_memory(order.text)
        process = ProcessOrder(
            argv=order.argv, env=os.environ, log=order.log, output=theirs, stdin=text
        )
        try:
            start = start_independent if order.outlives else start_dependent
            self._pid = start(process)
        except BaseException:
            os.close(self._output)
            raise
        finally:
            os.close(text)
            os.close(theirs)
        os.set_blocking(self._output, False)
        reactor.on_readable(self._output, self._take)
        reactor.on_exit(self._pid, self._on_exit)

    def kill(self) -> None:
        """End it; what runs on the host is not told."""
        if not self._has_ended:
            kill_group(self._pid)

    def _take(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[-_MOST_KEPT_BYTES:]
        said = [line.decode(errors="replace").rstrip("\r") for line in lines]
        for line in said:
            if line == self._order.greeting:
                self._on_greeting()
            elif line.strip():
                self._write(line)
                self._last_line = line.strip()

    def _on_exit(self, status: ExitStatus) -> None:
        self._has_ended = True
        # A helper that ssh left behind may hold the pipe open: what is there now is all we read.
        while data := read_available(self._output):
            self._take(data)
        if self._rest:
            self._take(b"\n")
        self._reactor.forget(self._output)
        os.close(self._output)
        self._on_end(status, self._last_line)

    def _write(self, line: str) -> None:
        with suppress(OSError), self._order.log.open("a") as log:  # a full disk ends no agent
            log.write(f"{line}\n")
