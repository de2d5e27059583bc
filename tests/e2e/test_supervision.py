"""Real processes: runs that go well, runs that are disturbed, and what they leave behind."""

import json
import os
import signal
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from launch.supervisor.events import (
    CheckpointRejected,
    CheckpointTorn,
    RankExited,
    RankFinished,
    RanksHung,
    RankStarted,
)
from launch.supervisor.instructions import AskPort, StartGeneration
from launch.supervisor.run_state import Phase
from tests.e2e.supervised import ToyRun, all_end

LONG = {"steps": 100_000, "slots": 2}
SAVING = ("--save-every", 20)
GONE_S = 5.0


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "run"


def test_an_undisturbed_run_finishes_its_last_step(folder) -> None:
    with ToyRun(folder, "--save-every", 4, steps=10, slots=3) as run:
        code = run.end()

        assert code == 0
        assert run.outcome["verdict"] == "finished"
        assert run.outcome["restarts"] == []
        assert (run.outcome["first_loss"], run.outcome["last_loss"]) == (10.0, 1.0)
        assert [row["step"] for row in run.metrics()] == list(range(1, 11))
        assert {event.step for event in run.events(RankFinished)} == {10}
        assert (folder / "checkpoints" / "latest").read_text() == "step-10\n"
        assert all_end(run.pids(), within_s=0.0)


def test_only_the_newest_checkpoints_are_kept(folder) -> None:
    rules = {"keep_checkpoints": 2}
    with ToyRun(folder, "--save-every", 2, steps=10, supervision=rules) as run:
        run.end()

        kept = sorted(path.name for path in (folder / "checkpoints").glob("step-*"))
        assert kept == ["step-10", "step-8"]
        assert list((folder / "checkpoints" / "trash").iterdir()) == []


@pytest.mark.parametrize("victim", [0, 2])
def test_a_killed_rank_costs_the_steps_since_the_last_checkpoint(folder, victim: int) -> None:
    with ToyRun(folder, *SAVING, steps=120, slots=3) as run:
        run.until_step(50)
        os.kill(run.rank_pid(victim), signal.SIGKILL)
        code = run.end()

        assert code == 0
        second = run.instructions(StartGeneration)[1]
        assert second.resume_step is not None
        assert second.resume_step % 20 == 0
        again = [row["step"] for row in run.metrics() if row["generation"] == 2]
        assert again == list(range(second.resume_step + 1, 121))
        assert run.outcome["restarts"][0]["recovery_s"] > 0
        assert run.replayed().phase is Phase.ENDED


def test_every_generation_has_a_port_of_its_own(folder) -> None:
    with ToyRun(folder, *SAVING, "--fault", "1:1:30:3", steps=60) as run:
        run.end()

        first, second = run.instructions(StartGeneration)
        assert first.port != second.port


def test_a_killed_agent_is_started_again_and_its_ranks_die_with_it(folder) -> None:
    with ToyRun(folder, *SAVING, steps=120) as run:
        run.until_step(50)
        agent, ranks = run.agent_pid(), [run.rank_pid(0), run.rank_pid(1)]
        os.kill(agent, signal.SIGKILL)
        died = all_end(ranks, within_s=GONE_S)
        code = run.end()

        assert died
        assert code == 0
        assert run.agent_pid() != agent
        assert "agent 0 on here is gone" in run.outcome["restarts"][0]["reason"]


def test_an_exit_of_zero_before_the_last_step_is_no_success(folder) -> None:
    with ToyRun(folder, *SAVING, "--fault", "0:1:30:0", steps=60) as run:
        code = run.end()

        assert code == 0
        assert "exited before it had finished" in run.outcome["restarts"][0]["reason"]
        assert run.outcome["generations"] == 2


def test_a_crash_loop_is_given_up_with_the_last_log_lines(folder) -> None:
    rules = {"max_restarts": 2}
    with ToyRun(folder, *SAVING, "--fault", "1:0:5:3", steps=60, supervision=rules) as run:
        code = run.end()

        assert code == 7
        assert len(run.instructions(StartGeneration)) == 3
        assert "rank 1 failed with exit code 3" in run.outcome["reason"]
        assert run.outcome["tail"] == ["toy fault at step 5"]


def test_a_refusal_of_the_engine_is_not_tried_again(folder) -> None:
    with ToyRun(folder, "--refuse", "tp 3 does not divide 16 heads") as run:
        code = run.end()

        assert code == 5
        assert run.outcome["reason"] == "tp 3 does not divide 16 heads"
        assert len(run.instructions(StartGeneration)) == 1


def test_a_program_that_is_not_there_is_named(folder) -> None:
    with ToyRun(folder, argv=["/nowhere/python", "x"]) as run:
        code = run.end()

        assert code == 6
        assert run.outcome["reason"] == ("cannot start /nowhere/python: No such file or directory")
        assert len(run.instructions(StartGeneration)) == 1


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        (["sh", "-c", "echo no corpus; exit 3"], 6, "sh ended with exit code 3: no corpus"),
        (["sh", "-c", "echo disk full; exit 8"], 8, "sh ended with exit code 8: disk full"),
        (["/nowhere/prepare"], 6, "cannot start /nowhere/prepare: No such file or directory"),
    ],
    ids=["fails", "storage", "absent"],
)
def test_a_preparation_that_fails_is_told_before_any_rank(folder, command, code, words) -> None:
    with ToyRun(folder, prepare=[command]) as run:
        assert run.end() == code
        assert words in run.error
        assert run.pids() == []


def test_a_controller_port_in_use_is_named(folder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with ToyRun(folder, controller_port=port) as run:
            code = run.end()

            assert code == 6
            assert f"controller port {port}: Address already in use" in run.error


def test_a_rendezvous_port_in_use_is_named(folder) -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = taken.getsockname()[1]
        with ToyRun(folder, rendezvous_port=port) as run:
            code = run.end()

            assert code == 6
            assert f"port {port} on {socket.gethostname()}: " in run.outcome["reason"]
            assert run.instructions(AskPort)[0].port == port


def test_a_checkpoint_with_a_hole_is_never_committed(folder) -> None:
    rules = {"max_restarts": 1}
    arguments = ("--forget-file", ".metadata")
    with ToyRun(folder, *arguments, steps=10, supervision=rules) as run:
        code = run.end()

        assert code == 7
        assert "checkpoint of step 10 is not whole: .metadata is missing" in run.outcome["reason"]
        assert list((folder / "checkpoints").glob("step-*")) == []


def test_a_file_that_lost_its_end_is_never_committed(folder) -> None:
    cut = "1:40:__1_0.distcp"
    with ToyRun(folder, *SAVING, "--cut-file", cut, "--fault", "0:1:50:3", steps=60) as run:
        code = run.end()

        said = {(event.step, event.reason) for event in run.events(CheckpointRejected)}
        assert code == 0
        assert said == {(40, "__1_0.distcp has 3 of 7 bytes")}  # in each generation
        assert run.instructions(StartGeneration)[1].resume_step == 20
        assert run.outcome["committed_steps"] == [20, 60]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (Path.unlink, "__1_0.distcp is missing"),
        (lambda path: os.truncate(path, 3), "__1_0.distcp has 3 of 7 bytes"),
    ],
    ids=["missing shard", "truncated file"],
)
def test_nothing_resumes_from_a_checkpoint_that_was_torn(folder, damage, reason) -> None:
    with ToyRun(folder, *SAVING, "--hang", "0:1:50", steps=60) as run:
        run.until_sentence("checkpoint of step 40 committed")
        damage(folder / "checkpoints" / "step-40" / "__1_0.distcp")
        os.kill(run.rank_pid(1), signal.SIGKILL)
        run.until_step(21, generation=2)
        latest = (folder / "checkpoints" / "latest").read_text()
        code = run.end()

        (torn,) = run.events(CheckpointTorn)
        assert code == 0
        assert (torn.step, torn.reason) == (40, reason)
        assert run.instructions(StartGeneration)[1].resume_step == 20
        assert latest == "step-20\n"
        assert (folder / "checkpoints" / "torn-step-40").is_dir()


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda s: s.name
)
def test_one_signal_saves_and_the_run_can_be_resumed(folder, number: signal.Signals) -> None:
    with ToyRun(folder, "--save-every", 1_000_000, **LONG) as run:
        run.until_step(30)
        run.process.send_signal(number)
        code = run.end()

        saved = run.outcome["committed_steps"]
        assert code == 130
        assert len(saved) == 1
        assert saved[0] >= 30
        assert all_end(run.pids(), within_s=0.0)

    with ToyRun(folder, "--save-every", 1_000_000, steps=saved[0] + 20) as resumed:
        code = resumed.end()

        assert code == 0
        start = resumed.instructions(StartGeneration)[-1]
        assert (start.generation, start.resume_step) == (2, saved[0])
        assert resumed.replayed().phase is Phase.ENDED


def test_two_signals_kill_at_once(folder) -> None:
    with ToyRun(folder, *SAVING, **LONG) as run:
        run.until_step(30)
        os.kill(run.rank_pid(1), signal.SIGSTOP)  # so that saving can never end
        run.process.send_signal(signal.SIGINT)
        run.until_sentence("once more kills them")
        run.process.send_signal(signal.SIGINT)
        code = run.end()

        assert code == 130
        assert run.outcome["reason"] == "ended by SIGINT"
        assert {event.signal for event in run.events(RankExited)} == {signal.SIGKILL}
        assert all_end(run.pids(), within_s=0.0)


def test_a_killed_controller_leaves_nothing_behind_after_the_lease(folder) -> None:
    with ToyRun(folder, *SAVING, **LONG, supervision={"lease_s": 1.0}) as run:
        run.until_step(30)
        pids = run.pids()
        run.process.kill()
        run.process.wait()

        assert all_end(pids, within_s=1.0 + GONE_S)
        assert "killing the ranks" in (folder / "logs" / "agent-0.log").read_text()


def test_a_frozen_controller_is_not_mistaken_for_a_living_one(folder) -> None:
    with ToyRun(folder, *SAVING, **LONG, supervision={"lease_s": 1.0}) as run:
        run.until_step(30)
        pids = run.pids()
        run.process.send_signal(signal.SIGSTOP)

        assert all_end(pids, within_s=1.0 + GONE_S)


def test_a_resumed_run_clears_away_what_a_dead_controller_left(folder) -> None:
    with ToyRun(folder, *SAVING, **LONG, supervision={"lease_s": 60.0}) as run:
        run.until_step(30)
        left = [run.rank_pid(0), run.rank_pid(1)]
        run.process.kill()
        run.process.wait()
        for pid in left:
            os.kill(pid, signal.SIGSTOP)  # they could not end by themselves

        with ToyRun(folder, *SAVING, steps=60) as resumed:
            code = resumed.end()

            assert code == 0
            assert all_end(left, within_s=0.0)
            assert (folder / "epoch-2").exists()


def test_a_full_disk_ends_the_run_and_its_ranks(folder) -> None:
    with ToyRun(folder, *SAVING, **LONG, full_from_step=30) as run:
        code = run.end()

        assert code == 8
        assert run.outcome["verdict"] == "storage"
        assert all_end(run.pids(), within_s=0.0)


def test_a_directory_with_a_run_in_it_is_not_overwritten(folder) -> None:
    folder.mkdir()
    (folder / "something").write_text("precious")

    with ToyRun(folder) as run:
        assert run.end() == 8
        assert "there is no run here" in run.error


def test_the_secret_is_nowhere_but_in_its_file(folder) -> None:
    with ToyRun(folder, *SAVING, **LONG) as run:
        run.until_step(30)
        secret = (folder / "secret").read_text().strip().encode()
        mode = (folder / "secret").stat().st_mode & 0o777
        processes = [run.process.pid, *run.pids()]
        shown = [
            Path(f"/proc/{pid}/{what}") for pid in processes for what in ("cmdline", "environ")
        ]
        files = [p for p in folder.rglob("*") if p.is_file() and p.name != "secret"]
        leaks = [path for path in (*shown, *files) if secret in path.read_bytes()]
        run.process.send_signal(signal.SIGINT)
        run.end()

        assert leaks == []
        assert mode == 0o600
        assert not (folder / "secret").exists()


def test_strangers_cannot_disturb_a_run(folder) -> None:
    with ToyRun(folder, *SAVING, steps=150) as run:
        run.until_step(10)
        port = json.loads((folder / "controller.json").read_text())["port"]
        noises = {
            b"GET / HTTP/1.1\r\n\r\n": "not JSON",
            b'{"kind":"response","nonce":"00","proof":"00"}\n': "wrong proof",
            b'{"kind":"accepted","proof":"00"}\n': "where a response was due",
            b"x" * 5_000: "line past 1024 bytes",
            b"": "closed by the other side",
        }
        for noise in noises:
            knock(port, noise)
        code = run.end()

        log = (folder / "logs" / "controller.log").read_text()
        assert code == 0
        assert run.outcome["restarts"] == []
        assert len(log.splitlines()) == len(noises)
        assert all(reason in log for reason in noises.values())


def knock(port: int, noise: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as stranger:
        stranger.recv(1_024)  # the challenge
        stranger.sendall(noise)
        stranger.shutdown(socket.SHUT_WR)
        try:
            while stranger.recv(1_024):
                continue
        except ConnectionResetError:
            return


def test_a_hang_is_noticed_its_rank_named_and_the_run_restarted(folder) -> None:
    rules = {"hang": {"floor_s": 1.0, "ceiling_s": 60.0, "phase_s": 60.0}}
    slow_save = ("--save-s", 1.5)  # a declared phase, longer than the limit of a step
    with ToyRun(
        folder, *SAVING, *slow_save, "--hang", "1:1:50", steps=60, slots=3, supervision=rules
    ) as run:
        code = run.end()

        (hung,) = run.events(RanksHung)
        assert code == 0
        assert (hung.rank, hung.generation) == (1, 1)
        assert hung.why == "it stopped after 'barrier world 0-2 #49', and the others wait for it"
        assert run.outcome["restarts"][0]["resume_step"] == 40
        assert all_end(run.pids(), within_s=0.0)


def test_a_stopped_process_is_named_wherever_it_stood(folder) -> None:
    rules = {"hang": {"floor_s": 1.0, "ceiling_s": 60.0, "phase_s": 60.0}}
    with ToyRun(folder, *SAVING, steps=150, slots=2, supervision=rules) as run:
        run.until_step(50)
        os.kill(run.rank_pid(0), signal.SIGSTOP)
        code = run.end()

        (hung,) = run.events(RanksHung)
        assert code == 0
        assert (hung.rank, hung.why) == (0, "its process is stopped")


def test_ranks_train_on_while_controllers_are_killed_and_resumed(folder) -> None:
    """Kill -9 at four places of a run; each next controller finds the same ranks at work."""
    steps = 1500
    changes = {"steps": steps, "slots": 2, "supervision": {"lease_s": 60.0}}
    with ExitStack() as all_controllers:
        run = all_controllers.enter_context(ToyRun(folder, *SAVING, **changes))
        run.until_step(30)
        ranks = {run.rank_pid(0), run.rank_pid(1)}
        for step in (60, 90, 120):
            kill_controller(run)
            run = all_controllers.enter_context(ToyRun(folder, *SAVING, **changes))
            run.until_sentence("all agents are back")
            run.until_step(step)
        kill_controller(run)
        run = all_controllers.enter_context(ToyRun(folder, *SAVING, **changes))
        code = run.end()

        assert code == 0
        assert (run.outcome["generations"], run.outcome["restarts"]) == (1, [])
        assert {event.pid for event in run.events(RankStarted)} == ranks
        assert run.outcome["last_loss"] == 10.0 / steps
        rows = [row["step"] for row in run.metrics()]
        assert rows == sorted(set(rows))
        assert rows[-1] == steps
        assert run.replayed().phase is Phase.ENDED
        assert all_end(run.pids(), within_s=0.0)


def kill_controller(run: ToyRun) -> None:
    run.process.kill()
    run.process.wait()
