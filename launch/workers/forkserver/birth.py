"""A fork whose child belongs to somebody else.

Theory of operation. An agent must own its ranks: reap them, see how they ended, and take them with
it when it dies. So the server forks twice, and the one in between ends at once. The kernel gives
the rank to the nearest subreaper above, which is the agent. Only then does the rank ask to be
killed when its parent dies: asked earlier it would die with the one in between. Should the server
end meanwhile, the rank reads the end of its pipe and ends, too.
"""

import os
import signal
from contextlib import ExitStack

from launch.transport.processes import die_with_parent

_GO = b"go"
_LOST = 127
_PID_BYTES = 32


class UnbornError(Exception):
    """There is no new process; `reason` says why."""

    def __init__(self, *, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


def fork_for(adopter: int) -> int | None:
    """Fork a child of `adopter` that leads a session: its pid here, None in the child.

    Raises:
        UnbornError: the kernel has no room for a process, or `adopter` is gone.
    """
    heard, says = os.pipe()
    waits, go = os.pipe()
    with ExitStack() as ours:
        for descriptor in (heard, says, waits, go):
            ours.callback(os.close, descriptor)
        between = _fork()
        if between:
            ours.pop_all()
            os.close(says)
            os.close(waits)
            return _deliver(between, heard=heard, go=go)
        _continue_in_grandchild()
        ours.pop_all()
        os.close(heard)
        os.close(go)
    _wait_for(adopter, waits=waits)
    os.write(says, str(os.getpid()).encode())
    os.close(says)
    return None


def _fork() -> int:
    try:
        return os.fork()
    except OSError as error:
        raise UnbornError(reason=error.strerror or str(error)) from None


def _continue_in_grandchild() -> None:
    try:
        is_between = os.fork() != 0
    except OSError:
        os._exit(_LOST)
    if is_between:
        os._exit(0)


def _deliver(between: int, *, heard: int, go: int) -> int:
    os.waitpid(between, 0)  # from here on the rank is its adopter's
    try:
        os.write(go, _GO)
        pid = os.read(heard, _PID_BYTES)
    except BrokenPipeError:
        pid = b""
    finally:
        os.close(go)
        os.close(heard)
    if not pid:
        raise UnbornError(reason="the new process ended before it was a rank")
    return int(pid)


def _wait_for(adopter: int, *, waits: int) -> None:
    if os.read(waits, len(_GO)) != _GO:
        os._exit(_LOST)
    os.close(waits)
    os.setsid()
    die_with_parent(adopter, signal.SIGKILL)
