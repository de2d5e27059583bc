"""`llmorch runs`, `stop` and `logs` beside real runs: alive, ended, and without a controller."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from launch.supervisor.events import RankExited
from tests.e2e.supervised import ToyRun, all_end

LONG = {"steps": 100_000, "slots": 2}
SLOWLY = ("--step-s", 0.1)  # so that a run whose words nobody reads does not fill its pipe
GONE_S = 10.0
LLMORCH = Path(sys.executable).parent / "llmorch"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The working folder of the commands; runs are below `runs`."""
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs" / "toy"


@pytest.fixture
def ended(folder) -> ToyRun:
    """A run of two generations that has ended, with its last words still said."""
    fault = ("--talk", "--save-every", 4, "--fault", "1:1:6:3")
    with ToyRun(folder, *fault, steps=12) as run:
        assert run.end() == 0
    return run


@pytest.fixture
def alive(folder) -> Iterator[ToyRun]:
    with ToyRun(folder, "--talk", "--save-every", 1_000_000, *SLOWLY, **LONG) as run:
        run.until_step(5)
        yield run


def texts(out: str) -> list[str]:
    return [line.partition(" | ")[2] for line in out.splitlines()]


def test_runs_shows_what_lives_what_ended_and_what_was_abandoned(folder, llmorch) -> None:
    with ToyRun(folder.with_name("left"), steps=4) as run:
        run.end()
    with ToyRun(folder.with_name("lost"), **LONG, supervision={"lease_s": 1.0}) as run:
        run.until_step(10)
        run.process.kill()
        run.process.wait()
    folder.with_name("damaged").mkdir()
    (folder.with_name("damaged") / "journal.jsonl").write_text("hello\n")
    with ToyRun(folder, *SLOWLY, **LONG) as run:
        run.until_step(5)

        answer = llmorch("runs", "--json")

    found = {facts["run"]: facts for facts in json.loads(answer.out)["runs"]}
    assert answer.code == 0
    assert {name: facts["state"] for name, facts in found.items()} == {
        "damaged": "unreadable",
        "left": "finished",
        "lost": "no controller",
        "toy": "running",
    }
    assert (found["left"]["step"], found["left"]["last_step"], found["left"]["ranks"]) == (4, 4, 2)
    assert found["toy"]["step"] >= 5
    assert found["toy"]["name"] == "toy"
    assert 0 < found["left"]["age_s"] < 300


def test_the_table_of_runs_fits_and_explains_what_needs_a_look(ended, folder, llmorch) -> None:
    answer = llmorch("runs")

    assert answer.out.splitlines()[0].split() == (
        ["run", "name", "state", "step", "generation", "ranks", "age"]
    )
    assert answer.out.splitlines()[1].split()[:6] == ["toy", "toy", "finished", "12/12", "2", "2"]
    assert max(map(len, answer.out.splitlines())) <= 100


def test_a_folder_without_runs_is_no_error(folder, llmorch) -> None:
    answer = llmorch("runs", "nowhere")

    assert (answer.code, answer.out) == (0, "")
    assert "no runs in nowhere" in answer.err


def test_stop_saves_and_leaves_as_ctrl_c_does(alive, llmorch) -> None:
    answer = llmorch("stop", "toy")
    code = alive.end()

    assert answer.code == 0
    assert "toy: the ranks save and leave, within 10 s" in answer.out
    assert code == 130
    assert len(alive.outcome["committed_steps"]) == 1
    assert all_end(alive.pids(), within_s=0.0)


def test_asked_twice_it_kills(alive, llmorch) -> None:
    os.kill(alive.rank_pid(1), signal.SIGSTOP)  # so that saving can never end
    first = llmorch("stop", "toy")
    second = llmorch("stop", "toy")
    code = alive.end()

    assert "save and leave" in first.out
    assert "the ranks are killed" in second.out
    assert code == 130
    assert alive.outcome["reason"].startswith("ended by stop by ")
    assert all_end(alive.pids(), within_s=0.0)


def test_now_kills_at_once(alive, llmorch) -> None:
    os.kill(alive.rank_pid(1), signal.SIGSTOP)

    answer = llmorch("stop", "toy", "--now", "--json")

    assert json.loads(answer.out)["phase"] == "ending"
    assert alive.end() == 130
    assert {event.signal for event in alive.events(RankExited)} == {signal.SIGKILL}


def test_stopping_what_has_ended_is_no_error(ended, llmorch) -> None:
    answer = llmorch("stop", "toy")

    assert (answer.code, answer.out) == (0, "toy had ended before: finished\n")


def test_without_a_controller_nothing_is_stopped_and_it_says_so(folder, llmorch) -> None:
    with ToyRun(folder, **LONG, supervision={"lease_s": 60.0}) as run:
        run.until_step(5)
        run.process.kill()
        run.process.wait()

        answer = llmorch("stop", folder, "--now")
        still_there = not all_end([run.rank_pid(0)], within_s=0.0)

    assert answer.code == 6
    assert f"its controller (pid {run.process.pid} on " in answer.err
    assert "does not answer" in answer.err
    assert "supervise.lease_s" in answer.err
    assert still_there


def test_stop_never_trusts_a_number_of_a_process(alive, folder, llmorch) -> None:
    """The pid in controller.json may be anybody's by now: it is shown and never signalled."""
    with subprocess.Popen(["sleep", "60"]) as bystander:
        note = json.loads((folder / "controller.json").read_text())
        (folder / "controller.json").write_text(json.dumps(note | {"pid": bystander.pid}))

        llmorch("stop", "toy", "--now")
        code = alive.end()
        is_alive = bystander.poll() is None
        bystander.kill()

    assert (code, is_alive) == (130, True)


def test_a_frozen_controller_is_not_waited_for_for_ever(alive, llmorch) -> None:
    alive.process.send_signal(signal.SIGSTOP)

    answer = llmorch("stop", "toy")
    alive.process.send_signal(signal.SIGCONT)

    assert answer.code == 6
    assert "no answer within 5 s" in answer.err


@pytest.mark.parametrize("command", ["stop", "logs"])
def test_a_run_that_is_not_there_is_named_with_the_nearest(ended, command, llmorch) -> None:
    answer = llmorch(command, "toi")

    assert answer.code == 3
    assert answer.err == "error: unknown run 'toi'\n  did you mean 'toy'?\n"


def test_logs_of_all_ranks_are_merged_by_time(ended, llmorch) -> None:
    answer = llmorch("logs", "toy", "--lines", 10)

    steps = [int(re.search(r"step (\d+)", text)[1]) for text in texts(answer.out)]
    assert len(steps) == 10
    assert steps == sorted(steps)
    assert steps[-2:] == [12, 12]
    assert all(" generation 2 rank " in line for line in answer.out.splitlines())


def test_logs_of_one_rank_reach_back_over_restarts(ended, llmorch) -> None:
    answer = llmorch("logs", "toy", "--rank", 1, "--lines", 100)

    said = texts(answer.out)
    assert "toy fault at step 6" in said
    assert said[0] == "rank 1 did step 1"
    assert said[-1] == "rank 1 did step 12"
    assert not any("rank 0" in text for text in said)


def test_logs_as_json_have_time_generation_rank_and_text(ended, llmorch) -> None:
    answer = llmorch("logs", "toy", "--lines", 1, "--json")

    line = json.loads(answer.out)
    assert (line["generation"], line["text"].endswith("did step 12")) == (2, True)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["at"])


def test_a_rank_that_there_is_not_is_refused_with_those_that_are(ended, llmorch) -> None:
    answer = llmorch("logs", "toy", "--rank", 2)

    assert answer.code == 2
    assert answer.err == "error: toy has no rank 2\n  its ranks are 0 to 1\n"


def test_following_goes_on_to_the_last_line_of_the_last_generation(folder) -> None:
    with ToyRun(folder, "--talk", "--save-every", 5, *SLOWLY, **LONG) as run:
        run.until_step(10)
        follower = subprocess.Popen(
            [LLMORCH, "logs", "toy", "--follow", "--lines", "4"],
            cwd=folder.parent.parent,
            stdout=subprocess.PIPE,
            text=True,
        )
        first = follower.stdout.readline()
        os.kill(run.rank_pid(1), signal.SIGKILL)
        run.until(lambda told: told["what"] == "step" and told["generation"] == 2)
        run.process.send_signal(signal.SIGINT)
        run.end()
        rest, _ = follower.communicate(timeout=60)

    last = run.outcome["last_step"]
    assert follower.returncode == 0
    assert "did step" in first
    for rank in (0, 1):
        second = [line for line in rest.splitlines() if f"generation 2 rank {rank} |" in line]
        steps = [int(re.search(r"did step (\d+)", line)[1]) for line in second]
        assert steps == list(range(steps[0], last + 1))
        assert steps[0] % 5 == 1


def test_logs_on_the_hosts_own_disk_are_pulled_through_the_controller(folder, llmorch) -> None:
    own = folder.parent / "own disk"
    with ToyRun(folder, "--talk", *SLOWLY, **LONG, ranks={"log_folder": str(own)}) as run:
        run.until_step(10)
        live = llmorch("logs", "toy", "--lines", 6)
        one = llmorch("logs", "toy", "--rank", 1, "--lines", 1)
        run.process.send_signal(signal.SIGINT)
        run.end()
        later = llmorch("logs", "toy", "--lines", 6)

    assert not list((folder / "logs").glob("generation-*/rank-*"))
    assert len(list(own.glob("toy-*/generation-1/rank-*.log"))) == 2
    for answer in (live, later):
        assert len(answer.out.splitlines()) == 6
        assert all(re.match(r"rank [01] did step \d+", text) for text in texts(answer.out))
    assert texts(one.out)[0].startswith("rank 1 did step ")
    assert f":{own}/toy-" in later.err
    assert "/generation-1" in later.err


def test_a_log_past_its_limit_is_rotated_and_still_read_whole(folder, llmorch) -> None:
    small = {"log_limit_bytes": 4_096, "log_keep": 20}
    with ToyRun(folder, "--talk", steps=200, slots=1, ranks=small) as run:
        assert run.end() == 0

    answer = llmorch("logs", "toy", "--lines", 200)

    files = list((folder / "logs" / "generation-1").iterdir())
    assert len(files) > 2
    assert all(file.stat().st_size <= 4_096 for file in files)
    assert texts(answer.out) == [f"rank 0 did step {step}" for step in range(1, 201)]


def test_a_run_that_fails_says_where_the_guilty_ranks_log_is(folder) -> None:
    rules = {"max_restarts": 0}
    with ToyRun(folder, "--talk", "--fault", "1:0:5:3", steps=60, supervision=rules) as run:
        run.end()

        log = folder / "logs" / "generation-1" / "rank-1.log"
        assert run.outcome["tail"][-1] == "toy fault at step 5"
        assert run.outcome["rest"] == f"here:{log}"
        assert "toy fault at step 5" in log.read_text()
