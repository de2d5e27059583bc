"""A run of toy ranks under a real controller and agent, seen and disturbed from outside.

Nothing here waits for a time: it waits for lines the controller tells, for journal entries, or for
processes to end, each with a deadline.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self

from launch.supervisor.events import AgentJoined, Event, RankStarted
from launch.supervisor.instructions import Instruction
from launch.supervisor.journal import Decided, Happened, read, replay
from launch.supervisor.run_state import State

ROOT = Path(__file__).parents[2]
DEADLINE_S = 60.0
Told = dict[str, Any]


class ToyRun:
    """One controller process; use it as a context, so that nothing outlives the test."""

    def __init__(self, directory: Path, *toy_arguments: object, **changes: Any) -> None:
        self.directory = directory
        self.told: list[Told] = []
        self._rest = b""
        self.process = subprocess.Popen(
            [
                *(sys.executable, str(ROOT / "tests" / "e2e" / "toy_run.py")),
                *(str(directory), json.dumps(changes), *map(str, toy_arguments)),
            ],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        for pid in self.pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def until(self, is_it: Callable[[Told], bool], *, within_s: float = DEADLINE_S) -> Told:
        """Read what the controller tells until a line is the one."""
        deadline_s = time.monotonic() + within_s
        while True:
            line = self._line(deadline_s)
            if line is None:
                raise AssertionError(f"never told; the last words are {self.told[-5:]}")
            self.told.append(line)
            if is_it(line):
                return line

    def until_step(self, step: int, *, generation: int = 1) -> Told:
        return self.until(
            lambda told: (
                told["what"] == "step" and told["generation"] == generation and told["step"] >= step
            )
        )

    def until_sentence(self, words: str) -> Told:
        return self.until(lambda told: words in told.get("sentence", ""))

    def end(self, *, within_s: float = DEADLINE_S) -> int:
        """Wait for the controller's end; its exit code."""
        deadline_s = time.monotonic() + within_s
        while (line := self._line(deadline_s)) is not None:
            self.told.append(line)
        return self.process.wait(timeout=within_s)

    @property
    def outcome(self) -> Told:
        return next(told for told in self.told if told["what"] == "outcome")

    @property
    def error(self) -> str:
        return next(told["message"] for told in self.told if told["what"] == "error")

    def events(self, kind: type[Event]) -> list[Any]:
        entries = read(self.directory / "journal.jsonl").entries
        happened = (entry.event for entry in entries if isinstance(entry, Happened))
        return [event for event in happened if isinstance(event, kind)]

    def instructions(self, kind: type[Instruction]) -> list[Any]:
        entries = read(self.directory / "journal.jsonl").entries
        decided = (entry.instruction for entry in entries if isinstance(entry, Decided))
        return [instruction for instruction in decided if isinstance(instruction, kind)]

    def replayed(self) -> State:
        return replay(read(self.directory / "journal.jsonl").entries)

    def metrics(self) -> list[Told]:
        lines = (self.directory / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def rank_pid(self, rank: int, *, generation: int = 1) -> int:
        started = self.events(RankStarted)
        return next(e.pid for e in started if (e.rank, e.generation) == (rank, generation))

    def agent_pid(self) -> int:
        return self.events(AgentJoined)[-1].pid

    def pids(self) -> list[int]:
        """Every agent and rank there ever was."""
        if not (self.directory / "journal.jsonl").exists():
            return []
        return [event.pid for event in (*self.events(RankStarted), *self.events(AgentJoined))]

    def _line(self, deadline_s: float) -> Told | None:
        while b"\n" not in self._rest:
            left_s = max(0.0, deadline_s - time.monotonic())
            if not select.select([self.process.stdout], [], [], left_s)[0]:
                raise AssertionError(f"silence; the last words are {self.told[-5:]}")
            data = os.read(self.process.stdout.fileno(), 65_536)
            if not data:
                return None
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return json.loads(line)


def all_end(pids: Iterable[int], *, within_s: float) -> bool:
    """Whether every process is gone in time; one that is gone already counts."""
    deadline_s = time.monotonic() + within_s
    return all(_ends(pid, deadline_s) for pid in pids)


def _ends(pid: int, deadline_s: float) -> bool:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        left_s = max(0.0, deadline_s - time.monotonic())
        return bool(select.select([descriptor], [], [], left_s)[0])
    finally:
        os.close(descriptor)
