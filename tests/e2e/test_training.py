"""The real thing: `llmorch launch` trains a GPT through Megatron-Core, and faults lose nothing."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launch.transport.processes import processes_with

BIN = Path(sys.executable).parent
DEADLINE_S = 240.0
STEPS = 16
RUN = f"""
schema: 1
name: NAME
model: tiny-gpt
cluster: {{card: local-cpu, gpus: 4}}
training: {{sequence_length: 64, global_batch_size: 8, steps: {STEPS}, precision: fp32,
           optimizer: {{learning_rate: 2.0e-3, warmup_steps: 2}}}}
layout: {{tp: 2, pp: 2, micro_batch_size: 2, zero_stage: 1}}
data: {{prefix: PREFIX, corpus: {{source: python-stdlib, limit_bytes: 200000}}}}
checkpoint: {{interval_steps: 6}}
supervise: {{lease_s: 10}}
"""


class Launched:
    """A `llmorch launch` process; its progress is read from stderr as it comes."""

    def __init__(self, folder: Path, name: str, prefix: Path, *, more: str = "") -> None:
        self.run_id = name
        self.directory = folder / name
        run_file = folder / f"{name}.yaml"
        run_file.write_text(RUN.replace("NAME", name).replace("PREFIX", str(prefix)) + more)
        self.said: deque[str] = deque()
        self.process = subprocess.Popen(
            [BIN / "llmorch", "launch", run_file, "--run-dir", self.directory, "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            start_new_session=True,
        )
        self.watchdog = threading.Timer(DEADLINE_S, self.kill)
        self.watchdog.start()

    def wait_for_step(self, step: int) -> None:
        self.wait_for(f"step {step}/{STEPS}")

    def wait_for(self, words: str) -> None:
        """Read what the run says until it says these words; the watchdog ends a wait in vain."""
        assert self.process.stderr
        for line in self.process.stderr:
            self.said.append(line)
            if words in line:
                return
        pytest.fail(f"the run ended without '{words}':\n{''.join(self.said)}")

    def end(self) -> tuple[int, dict[str, Any]]:
        """Wait for the end; the exit code and the summary."""
        out, err = self.process.communicate()
        self.watchdog.cancel()
        self.said.append(err)
        return self.process.returncode, json.loads(out) if out else {}

    def kill(self) -> None:
        self.watchdog.cancel()
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def pid_of(self, rank: int) -> int:
        """The process of a rank of the newest generation, from the journal."""
        started = [e for e in self.events("rank_started") if e["rank"] == rank]
        return int(started[-1]["pid"])

    def events(self, kind: str) -> list[dict[str, Any]]:
        journal = (self.directory / "journal.jsonl").read_text().splitlines()
        events = [json.loads(line).get("event", {}) for line in journal]
        return [event for event in events if event.get("kind") == kind]

    def losses(self) -> dict[int, float]:
        """The loss of each step, of the last generation that did it."""
        rows = map(json.loads, (self.directory / "metrics.jsonl").read_text().splitlines())
        return {row["step"]: row["loss"] for row in rows}

    def processes(self) -> list[int]:
        return processes_with("LLMORCH_RUN_ID", self.run_id)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def undisturbed(folder: Path) -> Launched:
    """Every rank of it starts cold; those of all others are forked."""
    run = Launched(folder, "undisturbed", folder / "corpus", more="launch: {start: cold}\n")
    code, summary = run.end()
    assert code == 0, "".join(run.said)
    assert summary["last_step"] == STEPS
    return run


@pytest.fixture
def run(folder: Path, undisturbed: Launched, request: pytest.FixtureRequest) -> Iterator[Launched]:
    name = request.node.name.replace("test_", "").replace("_", "-")[:60]
    launched = Launched(folder, name, folder / "corpus")
    yield launched
    launched.kill()


def test_an_undisturbed_run_trains_to_its_last_step(undisturbed: Launched):
    losses = undisturbed.losses()

    assert sorted(losses) == list(range(1, STEPS + 1))
    assert losses[STEPS] < losses[1] - 1
    assert (undisturbed.directory / "checkpoints" / "latest").read_text().strip() == "step-16"
    assert undisturbed.processes() == []


def test_a_killed_rank_costs_nothing_but_time(run: Launched, undisturbed: Launched):
    run.wait_for_step(9)
    os.kill(run.pid_of(rank=2), signal.SIGKILL)

    code, summary = run.end()

    assert code == 0, "".join(run.said)
    assert summary["last_step"] == STEPS
    assert [restart["resume_step"] for restart in summary["restarts"]] == [6]
    assert "rank 2 was ended by SIGKILL" in summary["restarts"][0]["reason"]
    assert run.losses() == undisturbed.losses()
    assert run.processes() == []
    assert [event for event in undisturbed.events("rank_started") if "fork_s" in event] == []
    forked = [event for event in run.events("rank_started") if "fork_s" in event]
    assert [event["generation"] for event in forked] == [1, 1, 1, 1, 2, 2, 2, 2]


def test_ctrl_c_once_saves_and_leaves(run: Launched):
    run.wait_for_step(7)
    run.process.send_signal(signal.SIGINT)

    code, summary = run.end()

    assert code == 130, "".join(run.said)
    assert summary["committed_steps"][-1] >= 7
    assert summary["last_step"] == summary["committed_steps"][-1] < STEPS
    assert run.processes() == []


def test_a_taken_port_is_named_and_the_folder_given_back(folder: Path, undisturbed: Launched):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run_file = folder / "taken.yaml"
        text = RUN.replace("NAME", "taken").replace("PREFIX", str(folder / "corpus"))
        run_file.write_text(f"{text}launch: {{controller_port: {port}}}\n")
        command = [BIN / "llmorch", "launch", run_file, "--run-dir", folder / "taken"]
        ended = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)

    assert ended.returncode == 6, ended.stderr
    assert str(port) in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (folder / "taken").exists()


def test_a_folder_that_holds_a_run_is_left_alone(folder: Path, undisturbed: Launched):
    before = sorted(undisturbed.directory.rglob("*"))
    command = [BIN / "llmorch", "launch", folder / "undisturbed.yaml"]
    command += ["--run-dir", undisturbed.directory]

    ended = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)

    assert ended.returncode == 8
    assert "a run is here already" in ended.stderr
    assert sorted(undisturbed.directory.rglob("*")) == before


def test_a_corpus_too_short_is_refused_and_not_tried_again(folder: Path, undisturbed: Launched):
    run_file = folder / "short.yaml"
    text = RUN.replace("NAME", "short").replace("PREFIX", str(folder / "short"))
    text = text.replace("gpus: 4", "gpus: 1").replace("tp: 2, pp: 2, ", "")
    run_file.write_text(text.replace("limit_bytes: 200000", "limit_bytes: 10"))
    command = [BIN / "llmorch", "launch", run_file, "--run-dir", folder / "short-run"]

    ended = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)

    assert ended.returncode == 5, ended.stderr
    assert "too short for one sample of 64 tokens" in ended.stderr
    assert not (folder / "short-run" / "logs" / "generation-2").exists()


def test_ctrl_c_twice_leaves_at_once(run: Launched):
    run.wait_for_step(2)
    # A stopped rank cannot save: only the second Ctrl-C can end this run.
    os.kill(run.pid_of(rank=1), signal.SIGSTOP)
    run.process.send_signal(signal.SIGINT)
    run.wait_for("once more kills them")
    run.process.send_signal(signal.SIGINT)

    code, _ = run.end()

    assert code == 130, "".join(run.said)
    assert run.processes() == []
