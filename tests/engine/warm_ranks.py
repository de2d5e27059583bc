"""Forks ranks from one process that has imported the engine, which is what most of a run costs.

Every rank is a process of its own with nothing left of the run before; only the imports are
shared. Torch may be forked as long as it has started no thread, which this asserts.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.transport.processes import adopt_orphans, children

DEADLINE_S = 200.0
Job = dict[str, Any]
Lines = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class WarmRun:
    """A run that has ended: what each rank reported, and how it ended."""

    folder: Path
    codes: list[int]

    def lines(self, rank: int = 0) -> Lines:
        text = (self.folder / f"rank-{rank}.lines").read_text()
        return [json.loads(line) for line in text.splitlines()]

    def log(self, rank: int = 0) -> str:
        return (self.folder / f"rank-{rank}.log").read_text()

    def losses(self, rank: int = 0) -> dict[int, float]:
        return {line["step"]: line["loss"] for line in self.lines(rank) if line["kind"] == "step"}

    def refusal(self, rank: int = 0) -> str:
        (line,) = [line for line in self.lines(rank) if line["kind"] == "refused"]
        return str(line["reason"])

    def checkpoint(self, step: int) -> Path:
        return self.folder / "staging" / f"step-{step}"


class WarmRanks:
    """The process that ranks are forked from, and the folder that runs are kept in."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.num_runs = 0
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__))],
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def run(
        self,
        config: Mapping[str, Any],
        *,
        ranks: int = 1,
        resume_from: Path | None = None,
        staged: bool = False,
        before: str = "",
    ) -> WarmRun:
        """Run to the end; `before` is a statement that each rank executes first."""
        run = self.attempt(
            config, ranks=ranks, resume_from=resume_from, staged=staged, before=before
        )
        assert set(run.codes) == {0}, f"exit codes {run.codes}; the logs:\n{run.log()}" + "".join(
            f"\nrank {rank}:\n{run.log(rank)[-3000:]}" for rank in range(1, ranks)
        )
        return run

    def attempt(
        self,
        config: Mapping[str, Any],
        *,
        ranks: int = 1,
        resume_from: Path | None = None,
        staged: bool = False,
        before: str = "",
        deadline_s: float = DEADLINE_S,
    ) -> WarmRun:
        """Run until every rank has ended, or one has failed, and with it all."""
        self.num_runs += 1
        folder = self.folder / f"run-{self.num_runs}"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(config))
        words = ["--config", str(folder / "config.json")]
        words += ["--staging-dir", str(folder / "staging")] if staged else []
        words += ["--resume-from", str(resume_from)] if resume_from else []
        job = {"folder": str(folder), "ranks": ranks, "words": words, "before": before}
        codes = self._ask({**job, "port": free_port(), "deadline_s": deadline_s})
        return WarmRun(folder=folder, codes=codes)

    def _ask(self, job: Job) -> list[int]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(job).encode() + b"\n")
        self.process.stdin.flush()
        ready, _, _ = select.select([self.process.stdout], [], [], job["deadline_s"] + 60)
        assert ready, "the process that ranks are forked from does not answer"
        return list(json.loads(self.process.stdout.readline()))

    def left_behind(self) -> list[int]:
        """What ranks started and is still there; between runs that is nobody."""
        return children(self.process.pid)

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=DEADLINE_S)


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def main() -> None:
    adopt_orphans()
    answers = os.dup(1)
    os.dup2(2, 1)  # whatever prints while importing is no answer
    import torch

    from launch.workers.megatron_core import shim

    shim.install()
    from launch.workers.megatron_core import session  # noqa: F401 - imported for its ranks

    assert not torch.cuda.is_available()
    assert threading.active_count() == 1
    for line in sys.stdin.buffer:
        codes = run(json.loads(line))
        os.write(answers, json.dumps(codes).encode() + b"\n")


def run(job: Job) -> list[int]:
    """Fork the ranks and reap them; the first that fails, or the deadline, ends all."""
    pids = [fork(job, rank) for rank in range(job["ranks"])]
    codes: dict[int, int] = {}
    signal.signal(signal.SIGALRM, lambda *_: kill(pids, codes))
    signal.setitimer(signal.ITIMER_REAL, job["deadline_s"])
    while len(codes) < len(pids):
        pid, status = os.wait()
        if pid not in pids:
            continue  # a helper whose rank has gone
        codes[pid] = os.waitstatus_to_exitcode(status)
        if codes[pid] not in (0, 5):  # a refusal is every rank's own
            kill(pids, codes)
    signal.setitimer(signal.ITIMER_REAL, 0)
    clear_helpers()
    return [codes[pid] for pid in pids]


def kill(pids: list[int], ended: Mapping[int, int]) -> None:
    for pid in pids:
        if pid not in ended:
            os.kill(pid, signal.SIGKILL)


def clear_helpers() -> None:
    """Kill what ranks left behind, as an agent would: Megatron's own save leaves a manager."""
    while left := children(os.getpid()):
        for pid in left:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def fork(job: Job, rank: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        code = be_rank(job, rank)
    except Exception:  # noqa: BLE001 - like an interpreter that ends
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def be_rank(job: Job, rank: int) -> int:
    folder = Path(job["folder"])
    log = os.open(folder / f"rank-{rank}.log", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    lines = os.open(folder / f"rank-{rank}.lines", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(job["ranks"]),
        "LOCAL_WORLD_SIZE": str(job["ranks"]),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(job["port"]),
        "LLMORCH_GENERATION": "1",
        "LLMORCH_RANK_FD": str(lines),
    }
    from launch.workers.megatron_core import main as worker

    exec(job["before"], {})
    return worker.run(job["words"], os.environ)


if __name__ == "__main__":
    main()
