"""What a rank tells its agent, and what becomes of a rank whose agent is gone."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from launch.marks import read_mark
from launch.rank_lines import RANK_LINES, PhaseLine, RankPhase, StepLine
from launch.wire import decode
from launch.workers.leave import LeaveRequest
from launch.workers.report import Reporter

ROOT = Path(__file__).parents[2]
STEP = StepLine(step=3, loss=2.5, grad_norm=0.5, learning_rate=1e-3, tokens=64, duration_s=0.1)


@pytest.fixture
def pipe():
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)
    os.close(writing)


def test_lines_go_to_the_pipe_that_the_agent_names(pipe) -> None:
    reading, writing = pipe
    reporter = Reporter.from_environment({"LLMORCH_RANK_FD": str(writing)})

    reporter.phase(RankPhase.TRAIN)
    reporter.send(STEP)

    first, second = os.read(reading, 4096).splitlines()
    assert decode(first, RANK_LINES) == PhaseLine(phase=RankPhase.TRAIN)
    assert decode(second, RANK_LINES) == STEP


def test_without_an_agent_nothing_is_said(tmp_path) -> None:
    reporter = Reporter.from_environment({})

    reporter.send(STEP)
    reporter.mark("all_reduce tp 2")

    assert reporter.pipe is None
    assert reporter.marks is None


def test_a_mark_names_the_current_step(tmp_path) -> None:
    path = tmp_path / "mark"
    reporter = Reporter.from_environment({"LLMORCH_MARK_FILE": str(path)})

    reporter.step = 7
    reporter.mark("all_reduce tp 2")

    mark = read_mark(path)
    assert mark is not None
    assert (mark.seq, mark.step, mark.label) == (1, 7, "all_reduce tp 2")


def test_a_rank_ends_at_once_when_its_agent_is_gone() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    program = (
        "from launch.workers.report import Reporter; from launch.rank_lines import FinishedLine;"
        f"Reporter.from_environment({{'LLMORCH_RANK_FD': '{writing}'}}).send(FinishedLine(step=1));"
        "print('still there')"
    )

    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        pass_fds=[writing],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    os.close(writing)

    assert (done.returncode, done.stdout) == (6, "")
    assert "the agent is gone" in done.stderr


def test_a_rank_dies_with_the_process_that_started_it() -> None:
    rank = (
        "import os, signal; from launch.workers.report import die_with_parent;"
        "die_with_parent(); print(os.getpid(), flush=True); signal.pause()"
    )
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {rank!r}])"
    process = subprocess.Popen([sys.executable, "-c", parent], cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    rank_pid = int(process.stdout.readline())

    try:
        process.send_signal(signal.SIGKILL)
        rest, _ = process.communicate(timeout=10)  # returns when nobody holds the pipe any more
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(rank_pid, signal.SIGKILL)

    assert rest == b""


def test_sigterm_is_kept_until_asked_for_and_a_second_changes_nothing() -> None:
    before = signal.getsignal(signal.SIGTERM)
    leave = LeaveRequest()
    leave.listen()
    try:
        seen = [leave.requested]
        for _ in range(2):
            signal.raise_signal(signal.SIGTERM)
            seen.append(leave.requested)
    finally:
        signal.signal(signal.SIGTERM, before)

    assert seen == [False, True, True]
