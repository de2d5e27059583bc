"""What runs on a host for the controller, sent there as text: the standard library alone.

`main(order, stream)` is called by the line in `launch.launchers.ssh.command`; the order is one JSON
object and `stream` is the rest of standard input. Processes of a run are found by their
environment: ranks have `LLMORCH_AGENT`, agents `LLMORCH_AGENT_PROCESS`, both `<agent id>@<run
directory>`.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

AGENT_PROCESS = "LLMORCH_AGENT_PROCESS"
RANK = "LLMORCH_AGENT"
GONE = 4  # exit code of `watch` and `clear`: nothing of this agent runs here
_CLEAR_LIMIT_S = 10.0
_LOOK_S = 0.02
_REFUSED = 6

Order = Mapping[str, Any]


def main(order: Order, stream: IO[bytes]) -> int:
    """Do what the order's `do` says; the exit code."""
    deeds: dict[str, Callable[[Order, IO[bytes]], int]] = {
        "start": start,
        "watch": watch,
        "clear": clear,
        "command": command,
    }
    return deeds[order["do"]](order, stream)


def start(order: Order, stream: IO[bytes]) -> int:  # noqa: RET503 - it never returns then
    """Become an agent; what an earlier life of it left is killed first."""
    archive = stream.read(order["archive_bytes"])
    if len(archive) != order["archive_bytes"] or not _enter(order["folder"]):
        return _REFUSED
    if not _kill_all(order["marker"]):
        return 1
    _greet(order)
    program = _in_memory(archive)
    secret, end = os.pipe()
    os.write(end, order["secret"].encode())
    os.close(end)
    for descriptor in (program, secret):
        os.set_inheritable(descriptor, True)
    argv = [sys.executable, "-I", "-S", f"/proc/self/fd/{program}", *order["argv"]]
    argv += ["--secret-file", f"/proc/self/fd/{secret}"]
    os.execve(sys.executable, argv, dict(os.environ) | {AGENT_PROCESS: order["marker"]})  # noqa: S606


def watch(order: Order, stream: IO[bytes]) -> int:  # noqa: ARG001 - every deed has both
    """Wait until no process of the agent is left; returns at once where there is none."""
    found = _found(order["marker"])
    if found:
        _greet(order)
    while found:
        for pid in found:
            _wait_for(pid)
        found = _found(order["marker"])
    return GONE


def clear(order: Order, stream: IO[bytes]) -> int:  # noqa: ARG001
    """Kill the agent and its ranks."""
    return GONE if _kill_all(order["marker"]) else 1


def command(order: Order, stream: IO[bytes]) -> int:
    """Run a command to its end; it is killed when the connection is lost."""
    if not _enter(order["folder"]):
        return _REFUSED
    try:
        process = subprocess.Popen(
            order["argv"],
            env=dict(os.environ) | dict(order["env"]),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        return _complain(f"cannot start {order['argv'][0]}: {error.strerror}")
    waited = os.pidfd_open(process.pid)
    ready, _, _ = select.select([waited, stream.fileno()], [], [])
    if waited not in ready:  # the other end of the connection is gone
        os.killpg(process.pid, signal.SIGKILL)
    code = process.wait()
    return code if code >= 0 else 128 - code


def _enter(folder: str) -> bool:
    try:
        os.chdir(folder)
    except OSError as error:
        _complain(f"working folder {folder}: {error.strerror}")
        return False
    return True


def _greet(order: Order) -> None:
    sys.stdout.write(order["greeting"] + "\n")
    sys.stdout.flush()


def _in_memory(archive: bytes) -> int:
    descriptor = os.memfd_create("llmorch-agent")
    view = memoryview(archive)
    while view:
        view = view[os.write(descriptor, view) :]
    return descriptor


def _kill_all(marker: str) -> bool:
    deadline_s = time.monotonic() + _CLEAR_LIMIT_S
    while found := _found(marker):
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            except PermissionError:
                _complain(f"process {pid} of {marker} is another user's")
                return False
        if time.monotonic() > deadline_s:
            _complain(f"processes {json.dumps(found)} of {marker} do not die")
            return False
        select.select([], [], [], _LOOK_S)
    return True


def _found(marker: str) -> list[int]:
    """The processes of an agent's lives but this one."""
    wanted = {f"{name}={marker}".encode() for name in (AGENT_PROCESS, RANK)}
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())
    return [pid for pid in pids if pid != os.getpid() and wanted & _environment(pid)]


def _environment(pid: int) -> set[bytes]:
    try:
        return set(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
    except OSError:
        return set()


def _wait_for(pid: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:  # it is gone, or the kernel is older than 5.3
        select.select([], [], [], _LOOK_S)
        return
    select.select([descriptor], [], [])
    os.close(descriptor)


def _complain(sentence: str) -> int:
    sys.stderr.write(f"llmorch: {sentence}\n")
    return _REFUSED
