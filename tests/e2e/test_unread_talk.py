"""A controller that nobody listens to: its run goes on, and its exit code tells what came of it."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from launch.supervisor.events import InterruptAsked
from launch.supervisor.journal import Happened, read
from tests.e2e.supervised import ROOT
from tests.e2e.testbed import eventually
from tests.e2e.unread import fill

END_S = 60.0
STEPS = 60


@contextmanager
def toy_launch(
    folder: Path,
    *toy: str,
    stdout: int,
    stderr: int,
    before: Sequence[str] = (),
    rules: Mapping[str, object] = {},
    steps: int = STEPS,
) -> Iterator["subprocess.Popen[bytes]"]:
    changes = {"steps": steps, "supervision": {"lease_s": 2.0, **rules}}
    process = subprocess.Popen(
        [*before, sys.executable, "tests/e2e/toy_launch.py", folder, json.dumps(changes), *toy],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()  # its agents end with the lease
        process.wait()


def last_step(folder: Path) -> int:
    metrics = folder / "metrics.jsonl"
    rows = metrics.read_text().splitlines() if metrics.exists() else []
    return json.loads(rows[-1])["step"] if rows else 0


def read_all(descriptor: int) -> bytes:
    said = b""
    try:
        while piece := os.read(descriptor, 65_536):
            said += piece
    except OSError:  # how a terminal ends
        pass
    return said


@pytest.mark.parametrize("channel", [os.pipe, pty.openpty], ids=["pipe", "terminal"])
def test_a_run_whose_talk_nobody_reads_reaches_its_last_step(
    tmp_path: Path, channel: Callable[[], tuple[int, int]]
) -> None:
    """As with `| less`, or Ctrl-S: the descriptor takes no byte from the beginning."""
    folder = tmp_path / "run"
    with ExitStack() as stack:
        listening, speaking = channel()
        stack.callback(os.close, listening)
        fill(speaking)
        run = stack.enter_context(toy_launch(folder, stdout=subprocess.DEVNULL, stderr=speaking))
        os.close(speaking)

        reached = eventually(lambda: last_step(folder) == STEPS, within_s=END_S)
        said = read_all(listening)

        assert reached
        assert run.wait(timeout=END_S) == 0
        assert f"step {STEPS}/{STEPS}".encode() in said
        assert f"run directory: {folder}".encode() in said


@pytest.mark.parametrize(("fault", "code"), [((), 0), (("--fault", "1:1:5:3"), 7)], ids=str)
def test_the_exit_code_is_the_runs_when_all_readers_have_gone(
    tmp_path: Path, fault: Sequence[str], code: int
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    rules = {"max_restarts": 0}

    with toy_launch(
        tmp_path / "run", *fault, stdout=writing, stderr=writing, rules=rules, steps=10
    ) as run:
        os.close(writing)

        assert run.wait(timeout=END_S) == code
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["verdict"] == (
        "failed" if code else "finished"
    )


def test_a_run_without_standard_streams_writes_its_files_whole(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    closed = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]

    with toy_launch(
        folder, before=closed, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as run:
        code = run.wait(timeout=END_S)

    assert (code, last_step(folder)) == (0, STEPS)
    assert read(folder / "journal.jsonl").entries


def test_a_run_under_nohup_outlives_its_terminal(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}

    with toy_launch(folder, before=["nohup"], **quiet) as run:
        trains = eventually(lambda: last_step(folder) >= 5, within_s=END_S)
        run.send_signal(signal.SIGHUP)
        code = run.wait(timeout=END_S)

    entries = read(folder / "journal.jsonl").entries
    asked = [e for e in entries if isinstance(e, Happened) and isinstance(e.event, InterruptAsked)]
    assert trains
    assert (code, asked, last_step(folder)) == (0, [], STEPS)
