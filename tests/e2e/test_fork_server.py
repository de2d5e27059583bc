"""Ranks that are forked from a warm process: owned, killed and believed as any others."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from launch.supervisor.events import RankExited, RankStarted
from launch.transport.processes import children
from tests.e2e.supervised import ToyRun, all_end

SAVING = ("--save-every", 20)
GONE_S = 10.0  # generous: a busy machine reaps late


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "run"


def server_of(run: ToyRun) -> int:
    is_it = [pid for pid in children(run.agent_pid()) if b"llmorch-forkserver" in command_of(pid)]
    ranks = {event.pid for event in run.events(RankStarted)}  # they bear its name
    (server,) = (pid for pid in is_it if pid not in ranks)
    return server


def command_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def forked(run: ToyRun, *, generation: int) -> list[bool]:
    started = run.events(RankStarted)
    return [e.fork_s is not None for e in started if e.generation == generation]


def test_every_generation_is_forked_from_the_same_process(folder) -> None:
    with ToyRun(folder, *SAVING, steps=120, slots=3, warm=[]) as run:
        run.until_step(50)
        are_the_agents = [pid in children(run.agent_pid()) for pid in run.pids()[:3]]
        os.kill(run.rank_pid(2), signal.SIGKILL)
        code = run.end()

        assert code == 0
        assert all(are_the_agents)
        assert forked(run, generation=1) == forked(run, generation=2) == [True] * 3
        assert "rank 2 was ended by SIGKILL" in run.outcome["restarts"][0]["reason"]
        agent_log = (folder / "logs" / "agent-0.log").read_text()
        assert agent_log.count(" is warm after ") == 1
        assert all_end(run.pids(), within_s=0.0)


def test_a_forked_rank_finds_what_a_started_one_finds(folder) -> None:
    """Its log, its words, its exit code; its pipe and marks are known by the run's going on."""
    with ToyRun(folder, *SAVING, "--fault", "1:1:30:3", steps=60, warm=[]) as run:
        code = run.end()

        assert code == 0
        guilty = next(e for e in run.events(RankExited) if e.exit_code == 3)
        assert (guilty.rank, guilty.tail) == (1, ("toy fault at step 30",))


def test_ranks_outlive_their_fork_server_and_the_next_ones_have_another(folder) -> None:
    with ToyRun(folder, *SAVING, steps=600, warm=[]) as run:
        run.until_step(20)
        os.kill(server_of(run), signal.SIGKILL)
        run.until_step(60)
        os.kill(run.rank_pid(0), signal.SIGKILL)
        code = run.end()

        assert code == 0
        assert [r["generation"] for r in run.outcome["restarts"]] == [1]
        assert forked(run, generation=2) == [True] * 2
        agent_log = (folder / "logs" / "agent-0.log").read_text()
        assert "fork server ended with signal SIGKILL: starting it again" in agent_log


def test_a_frozen_fork_server_costs_cold_starts_and_no_run(folder) -> None:
    with ToyRun(folder, *SAVING, steps=120, warm=[]) as run:
        run.until_step(50)
        server = server_of(run)
        os.kill(server, signal.SIGSTOP)
        os.kill(run.rank_pid(0), signal.SIGKILL)
        code = run.end()

        assert code == 0
        reasons = [e.cold for e in run.events(RankStarted) if e.generation == 2]
        assert all("the fork server does not answer" in reason for reason in reasons)
        assert all_end([server], within_s=GONE_S)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--warm", "no_such_engine"], "ModuleNotFoundError: No module named 'no_such_engine'"),
        (["--warm", "tests.e2e.threading_engine:warm_up"], "2 threads, and only a process of one"),
    ],
    ids=["an engine that is not there", "an engine with threads"],
)
def test_what_cannot_be_forked_starts_cold_and_the_journal_says_why(
    folder, options, reason
) -> None:
    with ToyRun(folder, *SAVING, steps=40, warm=options) as run:
        code = run.end()

        assert code == 0
        assert forked(run, generation=1) == [False] * 2
        assert all(reason in event.cold for event in run.events(RankStarted))


@pytest.fixture
def with_helpers(tmp_path) -> Iterator[ToyRun]:
    rules = {"lease_s": 1.0, "max_restarts": 0}
    words = ("--spawn-helper", tmp_path / "helper")
    with ToyRun(tmp_path / "run", *words, steps=100_000, supervision=rules, warm=[]) as run:
        run.until_step(10)
        yield run


@pytest.mark.parametrize("order", ["agent", "server agent", "controller"])
def test_nothing_is_left_of_forked_ranks(with_helpers: ToyRun, tmp_path, order: str) -> None:
    run = with_helpers
    helpers = [int(note.read_text()) for note in tmp_path.glob("helper-*")]
    pids = {"agent": run.agent_pid(), "server": server_of(run), "controller": run.process.pid}

    for name in order.split():
        os.kill(pids[name], signal.SIGKILL)
    if order == "controller":
        run.process.wait()

    assert len(helpers) == 2
    assert all_end([*run.pids(), *helpers, pids["server"]], within_s=GONE_S)
