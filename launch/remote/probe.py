"""What a host says about itself before a run; sent there as text: the standard library alone.

`main` prints one line with the answers as JSON. Each question is answered by itself, and what
cannot be found out is said so (`untold`). Before each question its name goes to standard error:
when a host falls silent, the last name says at what.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import IO, Any

Order = Mapping[str, Any]

_OURS = ("LLMORCH_AGENT", "LLMORCH_AGENT_PROCESS")
_DIAL_TIMEOUT_S = 5.0
_GPU_TIMEOUT_S = 30.0
_MEMORY_QUERY = "--query-gpu=index,memory.used,memory.total"
_PROCESS_QUERY = "--query-compute-apps=pid,used_memory"


def main(order: Order, stream: IO[bytes]) -> int:  # noqa: ARG001 - as every program
    """Answer the order's questions; the exit code is 0 where there is an answer at all."""
    answers: dict[str, object] = {"host": socket.gethostname()}
    for name, question in _QUESTIONS:
        sys.stderr.write(f"llmorch-asks {name}\n")
        sys.stderr.flush()
        answers[name] = _answer(question, order)
    answers["time_s"] = time.time()  # noqa: TID251 - a host's clock is what is asked
    sys.stdout.write(f"\nllmorch-answer {json.dumps(answers)}\n")
    return 0


def _answer(question: Callable[[Order], object], order: Order) -> object:
    try:
        return question(order)
    except Exception as error:  # noqa: BLE001 - whatever it was, it is an answer
        return {"untold": f"{type(error).__name__}: {error}"}


def _packages(order: Order) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in order["packages"]:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def _programs(order: Order) -> dict[str, str | None]:
    return {path: _fault_of_program(path) for path in order["programs"]}


def _fault_of_program(path: str) -> str | None:
    if not Path(path).exists():
        return "is missing"
    return None if os.access(path, os.X_OK) else "may not be executed"


def _folder(order: Order) -> str | None:
    try:
        os.chdir(order["folder"])
    except OSError as error:
        return error.strerror
    return None


def _shared(order: Order) -> dict[str, str | None]:
    """Read what the controller wrote, and write what it will read."""
    return {path: _fault_of_shared(path, order) for path in order["shared"]}


def _fault_of_shared(folder: str, order: Order) -> str | None:
    try:
        if Path(folder, order["token_file"]).read_text() != order["token"]:
            return "another file is there"
    except OSError as error:
        return f"not seen here: {error.strerror}"
    try:
        with Path(folder, order["answer_file"]).open("w") as file:
            file.write(order["token"])
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return f"not writable here: {error.strerror}"
    return None


def _free_bytes(order: Order) -> int:
    state = os.statvfs(order["shared"][0])
    return state.f_bavail * state.f_frsize


def _controller(order: Order) -> str | None:
    try:
        socket.create_connection(order["controller"], _DIAL_TIMEOUT_S).close()
    except OSError as error:
        return error.strerror or str(error)
    return None


def _port(order: Order) -> str | None:
    if order["port"] is None:
        return None
    with socket.socket() as holder:
        try:
            holder.bind(("", order["port"]))
        except OSError as error:
            return error.strerror
    return None


def _names(order: Order) -> dict[str, str | None]:
    """The rendezvous' address, and the one that this host believes to have."""
    try:
        socket.getaddrinfo(order["rendezvous"], None)
        fault = None
    except OSError as error:
        fault = error.strerror or str(error)
    try:
        own = socket.gethostbyname(socket.gethostname())
    except OSError:
        own = None
    return {"rendezvous": fault, "own": own}


def _gpus(order: Order) -> dict[str, Any] | None:
    """Each GPU's memory, and the processes on them; None where none is needed."""
    if not order["gpus"]:
        return None
    memory = [[int(word) for word in row] for row in _nvidia_smi(_MEMORY_QUERY)]
    return {"memory_mib": memory, "pids": [int(row[0]) for row in _nvidia_smi(_PROCESS_QUERY)]}


def _nvidia_smi(query: str) -> list[list[str]]:
    command = ["nvidia-smi", query, "--format=csv,noheader,nounits"]
    out = subprocess.check_output(command, timeout=_GPU_TIMEOUT_S, stderr=subprocess.STDOUT)
    rows = out.decode(errors="replace").splitlines()
    return [[word.strip() for word in row.split(",")] for row in rows if row.strip()]


def _others(order: Order) -> list[list[Any]]:
    """Processes of other runs of ours, as [pid, run directory]."""
    found = []
    for entry in (path.name for path in Path("/proc").iterdir()):
        run = _run_of(entry) if entry.isdecimal() else None
        if run is not None and run != order["run"]:
            found.append([int(entry), run])
    return sorted(found)


def _run_of(pid: str) -> str | None:
    try:
        variables = Path("/proc", pid, "environ").read_bytes().split(b"\0")
    except OSError:
        return None
    for variable in variables:
        name, _, value = variable.decode(errors="surrogateescape").partition("=")
        if name in _OURS:
            return value.partition("@")[2].encode(errors="replace").decode()
    return None


_QUESTIONS = (
    ("packages", _packages),
    ("programs", _programs),
    ("folder", _folder),
    ("shared", _shared),
    ("free_bytes", _free_bytes),
    ("controller", _controller),
    ("port", _port),
    ("names", _names),
    ("gpus", _gpus),
    ("others", _others),
)
