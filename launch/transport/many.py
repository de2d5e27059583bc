"""Many commands at a time that are asked and answer: `commands.ask`, with bounds.

Each command reads what it is told from memory and writes into memory, so a command that neither
reads nor ends, or leaves a helper behind that holds its outputs (as OpenSSH's ControlPersist does),
blocks nobody: what counts is that the process is gone. When its time is over its whole group is
killed; when we are interrupted, or killed, all of them are.
"""

import os
import select
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from launch.transport.processes import die_with_parent, kill_group

_MOST_BYTES = 1 << 20  # of an output; a login script may talk for ever
_LOOK_S = 0.05  # where the kernel has no pidfd_open (before 5.3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A command, and what it reads."""

    argv: Sequence[str]
    text: bytes
    timeout_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a command said; `exit_code` is negative for a signal, None where its time was over.

    Wall times are seconds since 1970, on this machine's clock.
    """

    exit_code: int | None
    out: str
    err: str
    began_s: float
    ended_s: float


def ask_many(
    questions: Sequence[Question],
    *,
    at_once: int,
    wall_s: Callable[[], float],
    replied: Callable[[int], None] = lambda _: None,
) -> tuple[Reply, ...]:
    """Run commands, `at_once` side by side; their replies in the questions' order.

    `replied` is called with the number of replies so far. A command that cannot be started replies
    with exit code 127, as a shell would say it.
    """
    waiting = deque(enumerate(questions))
    running: dict[int, _Running] = {}
    replies: dict[int, Reply] = {}
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                number, question = waiting.popleft()
                running[number] = _Running(question, wall_s)
            _wait(running.values())
            for number in [n for n, process in running.items() if process.is_over()]:
                replies[number] = running.pop(number).reply()
                replied(len(replies))
    finally:
        for process in running.values():
            process.reply()
    return tuple(replies[number] for number in range(len(questions)))


class _Running:
    """A command on its way."""

    def __init__(self, question: Question, wall_s: Callable[[], float]) -> None:
        self._wall_s = wall_s
        self._began_s = wall_s()
        self._deadline_s = time.monotonic() + question.timeout_s
        self._out, self._err = (os.memfd_create(name) for name in ("out", "err"))
        self._process: subprocess.Popen[bytes] | None = None
        self._problem = ""
        self.descriptor: int | None = None
        self._start(question)

    @property
    def left_s(self) -> float:
        return max(0.0, self._deadline_s - time.monotonic())

    def is_over(self) -> bool:
        return self._process is None or self._has_ended() or self.left_s == 0

    def reply(self) -> Reply:
        """End it if it has not ended, and say what it said."""
        exit_code: int | None = 127
        if self._process is not None:
            has_ended = self._has_ended()
            kill_group(self._process.pid)  # the leader is not reaped yet, so the group is its own
            code = self._process.wait()
            exit_code = code if has_ended else None
        out, err = _text(self._out), self._problem or _text(self._err)
        if self.descriptor is not None:
            os.close(self.descriptor)
        return Reply(
            exit_code=exit_code, out=out, err=err, began_s=self._began_s, ended_s=self._wall_s()
        )

    def _start(self, question: Question) -> None:
        parent = os.getpid()
        stdin = in_memory(question.text)
        try:
            self._process = subprocess.Popen(
                list(question.argv),
                stdin=stdin,
                stdout=self._out,
                stderr=self._err,
                start_new_session=True,
                # Safe: it calls one C function, which takes no lock.
                preexec_fn=lambda: die_with_parent(parent, signal.SIGKILL),  # noqa: PLW1509
            )
            self.descriptor = _pidfd(self._process.pid)
        except OSError as error:
            self._problem = f"cannot start {question.argv[0]}: {error.strerror}"
        finally:
            os.close(stdin)

    def _has_ended(self) -> bool:
        """Whether it has ended; it stays unreaped, so that its group can still be killed."""
        assert self._process is not None  # noqa: S101
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self._process.pid, flags) is not None


def in_memory(content: bytes) -> int:
    """A descriptor from which `content` can be read, once."""
    descriptor = os.memfd_create("llmorch-input", os.MFD_CLOEXEC)
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _wait(processes: Collection[_Running]) -> None:
    """Wait until a command has ended, or the time of one is over."""
    limit_s = min(process.left_s for process in processes)
    poll = select.poll()
    for process in processes:
        if process.descriptor is None:
            limit_s = min(limit_s, _LOOK_S)
        else:
            poll.register(process.descriptor, select.POLLIN)
    poll.poll(limit_s * 1_000)


def _pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def _text(descriptor: int) -> str:
    size = os.fstat(descriptor).st_size
    begin = max(0, size - _MOST_BYTES)  # what matters comes last
    data = os.pread(descriptor, _MOST_BYTES, begin)
    os.close(descriptor)
    return data.decode(errors="replace")
