"""A warden outlives the agent, so that nothing outlives them both.

Theory of operation. The program forks before it does anything else. The child works; the parent,
the warden, only waits. Both are subreapers: what a dead rank leaves behind becomes the child's, and
when the child itself is gone, by `kill -9` even, everything below it becomes the warden's, who
kills it and ends as the child ended. When the warden is killed first, the kernel sends the child
SIGTERM, and the child ends in good order. So it takes two `kill -9` at the same instant to leave
anything but ranks' runaway helpers to the next agent on the host; the ranks themselves die even so.

SIGTERM to the warden kills the child at once, frozen or not, and then the rest. The two are in
sessions of their own: no signal to one's group reaches the other.
"""

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from launch.transport.processes import (
    ExitStatus,
    adopt_orphans,
    children,
    die_with_parent,
    exit_status,
    signal_process,
)

_LOOK_S = 0.02  # a child may come to us without a SIGCHLD
_LOOKS = 1_500  # half a minute; what is still there then is stuck in the kernel
_DEAF = (signal.SIGINT, signal.SIGHUP)


def outlive(work: Callable[[], int]) -> NoReturn:
    """Do `work` in a child, clear away what it leaves, and end as it ended."""
    adopt_orphans()
    warden = os.getpid()
    for number in _DEAF:  # a handler, because ignoring would be inherited by the ranks
        signal.signal(number, _ignore)
    worker = os.fork()
    if worker == 0:
        os._exit(_worked(work, warden))
    signal.signal(signal.SIGTERM, lambda *_: signal_process(worker, signal.SIGKILL))
    _, status = os.waitpid(worker, 0)
    _clear()
    _end_as(exit_status(status))


def _worked(work: Callable[[], int], warden: int) -> int:
    os.setsid()
    die_with_parent(warden, signal.SIGTERM)
    adopt_orphans()
    try:
        return work()
    except SystemExit as end:
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
            return 1
        return end.code or 0
    except BaseException:  # noqa: BLE001 - the border of the process: told, and an exit code
        sys.excepthook(*sys.exc_info())
        return 1
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()


def _clear() -> None:
    """Kill and reap our children until none comes any more."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    for _ in range(_LOOKS):
        left = children(os.getpid())
        if not left:
            return
        for pid in left:
            signal_process(pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        signal.sigtimedwait({signal.SIGCHLD}, _LOOK_S)
    sys.stderr.write(f"agent: processes {children(os.getpid())} do not die\n")


def _end_as(status: ExitStatus) -> NoReturn:
    if status.signal is not None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), status.signal)
    os._exit(status.exit_code if status.exit_code is not None else 1)


def _ignore(*_: object) -> None:
    """Do nothing."""
