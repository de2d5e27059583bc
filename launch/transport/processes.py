"""Processes: start them so that they can be killed whole, reap them, find what was left behind.

A rank leads a process group of its own, so its data loaders die with it. It asks the kernel to be
killed when its agent dies (PR_SET_PDEATHSIG), so even `kill -9` of an agent leaves no rank. The
agent is a child subreaper: what a rank's children leave behind becomes the agent's child, where it
can be found and killed.
"""

import ctypes
import errno
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_CANNOT_EXEC_STATUS = 127
_LIBC = ctypes.CDLL(None, use_errno=True)


class StartError(Exception):
    """A process could not be started; `reason` says which and why."""

    def __init__(self, *, program: str, why: str) -> None:
        self.reason = f"cannot start {program}: {why}"
        super().__init__(self.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitStatus:
    """How a process ended: with a code or by a signal."""

    exit_code: int | None
    signal: int | None

    @property
    def text(self) -> str:
        """As a sentence says it."""
        if self.signal is None:
            return f"exit code {self.exit_code}"
        return f"signal {signal.Signals(self.signal).name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessOrder:
    """What to start: standard input is empty; both outputs go to the end of `log`.

    An `output` descriptor takes them instead where there is one, and `stdin` is read where there
    is one. `processors` are those that the process may use, None leaves it ours.
    """

    argv: Sequence[str]
    env: Mapping[str, str]
    log: Path
    output: int | None = None
    stdin: int | None = None
    processors: frozenset[int] | None = None
    inherit: tuple[int, ...] = ()


def start_dependent(order: ProcessOrder) -> int:
    """Start a process that leads a group and dies with us; its pid."""
    return _start(order, before_exec=_in_child(os.getpid(), order.processors))


def run_dependent(order: ProcessOrder) -> ExitStatus:
    """Run a process to its end and reap it; it dies with us."""
    pid = start_dependent(order)
    _, status = os.waitpid(pid, 0)
    return exit_status(status)


def start_independent(order: ProcessOrder) -> int:
    """Start a process in a session of its own, which no terminal's Ctrl-C reaches; its pid."""
    return _start(order, before_exec=None)


def reap(pid: int) -> ExitStatus | None:
    """Reap a child if it has ended, and kill what is left of its group; None while it runs."""
    if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        return None
    kill_group(pid)  # before the pid is free for somebody else's group
    _, status = os.waitpid(pid, 0)
    return exit_status(status)


def kill_and_reap(pid: int) -> ExitStatus:
    """Kill a child's whole group, wait for the child and reap it."""
    kill_group(pid)
    _, status = os.waitpid(pid, 0)
    return exit_status(status)


def signal_process(pid: int, number: signal.Signals) -> None:
    """Send a signal to one process of ours that may be gone already."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def kill_group(leader: int) -> None:
    """Kill a process group; nothing happens when it is gone already."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return


def adopt_orphans() -> None:
    """Become the parent of what our children leave behind."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int, number: signal.Signals) -> None:
    """Ask the kernel for a signal when our parent dies; end at once where it is dead already."""
    _prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os._exit(_CANNOT_EXEC_STATUS)


def children(parent: int) -> list[int]:
    """Pids whose parent is `parent`; /proc/*/children would be faster and is not in all kernels."""
    folders = (folder for folder in Path("/proc").iterdir() if folder.name.isdecimal())
    return [int(folder.name) for folder in folders if _parent(folder) == parent]


def kill_adopted(*, ours: frozenset[int]) -> list[int]:
    """Kill the children that we did not start: what dead ranks left behind.

    Those that are dead already are reaped; returned are those that have still to die, and whose own
    children may come to us when they do.
    """
    adopted = [pid for pid in children(os.getpid()) if pid not in ours]
    for pid in adopted:
        signal_process(pid, signal.SIGKILL)
    return [pid for pid in adopted if not _is_reaped(pid)]


def processes_with(variable: str, value: str) -> list[int]:
    """The processes of this host, but us, whose environment began with `variable=value`."""
    marker = f"{variable}={value}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal() or int(folder.name) == os.getpid():
            continue
        if marker in _environment(folder).split(b"\0"):
            found.append(int(folder.name))
    return sorted(found)


def process_state(pid: int) -> str | None:
    """The letter of a process's state: `R` runs, `T` was stopped, `D` waits for a device."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return stat.rpartition(")")[2].split()[0]


def _start(order: ProcessOrder, *, before_exec: Callable[[], None] | None) -> int:
    output = _output(order)
    try:
        process = _spawn(order, output, before_exec)
    except OSError as error:
        raise StartError(program=order.argv[0], why=error.strerror or str(error)) from None
    except subprocess.SubprocessError as error:
        raise StartError(program=order.argv[0], why=str(error)) from None
    finally:
        os.close(output)
    process.returncode = 0  # we reap by pid; Popen must neither wait nor warn
    return process.pid


def _output(order: ProcessOrder) -> int:
    """A descriptor of our own for what the process prints."""
    if order.output is not None:
        return os.dup(order.output)
    try:
        return os.open(order.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StartError(program=order.argv[0], why=f"{order.log}: {error.strerror}") from None


def _spawn(
    order: ProcessOrder, output: int, before_exec: Callable[[], None] | None
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        list(order.argv),
        env=dict(order.env),
        stdin=subprocess.DEVNULL if order.stdin is None else order.stdin,
        stdout=output,
        stderr=output,
        pass_fds=order.inherit,
        start_new_session=True,
        # Safe: the agent has one thread when it forks, and the function calls one C function.
        preexec_fn=before_exec,  # noqa: PLW1509
    )


def exit_status(status: int) -> ExitStatus:
    """How a process ended, from what `waitpid` says."""
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        return ExitStatus(exit_code=None, signal=-code)
    return ExitStatus(exit_code=code, signal=None)


def _in_child(parent: int, processors: frozenset[int] | None) -> Callable[[], None]:
    def ask_kernel() -> None:
        die_with_parent(parent, signal.SIGKILL)
        if processors is not None:
            os.sched_setaffinity(0, processors)

    return ask_kernel


def _prctl(option: int, argument: int) -> None:
    if _LIBC.prctl(option, argument, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _parent(process: Path) -> int | None:
    try:
        stat = (process / "stat").read_text()
    except OSError:
        return None  # it has ended
    return int(stat.rpartition(")")[2].split()[1])  # the name before ")" may hold anything


def _is_reaped(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def _environment(process: Path) -> bytes:
    try:
        return (process / "environ").read_bytes()
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ESRCH, errno.EACCES, errno.EPERM}:
            return b""  # gone, or another user's
        raise
