"""Four hosts over real ssh: whatever is killed, nothing is left and the exit code is right.

One case of each fault runs by default; every order of every two of them is `make e2e-all`.
"""

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from launch.supervisor.events import AgentJoined
from launch.supervisor.instructions import StartGeneration
from launch.supervisor.run_state import Phase
from tests.e2e.ssh_supervised import FENCED_S, KEEN, PATIENCE, SshToyRun, end
from tests.e2e.testbed import Testbed, eventually

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")
SAVING = ("--save-every", 20)
KILLED = -9
PATIENT_AGENTS = {"lease_s": 120.0, "max_restarts": 9}  # so that the old one is there still
GONE_S = 10.0
Fault = Callable[[SshToyRun, str], None]


def kill_rank(run: SshToyRun, host: str) -> None:
    end(run.ranks(host))


def kill_agent(run: SshToyRun, host: str) -> None:
    end(run.agents(host))


def kill_connection(run: SshToyRun, host: str) -> None:
    end(run.clients(host))


def crash_host(run: SshToyRun, host: str) -> None:
    run.bed.host(host).crash()


def cut_cable(run: SshToyRun, host: str) -> None:
    run.bed.host(host).cut()


def kill_controller(run: SshToyRun, host: str) -> None:
    run.process.kill()
    run.process.wait()


FAULTS: dict[str, Fault] = {
    "rank": kill_rank,
    "agent": kill_agent,
    "connection": kill_connection,
    "host": crash_host,
    "cable": cut_cable,
    "controller": kill_controller,
}
CODES = {"controller": KILLED, "host": 6, "cable": 6}  # the others: 0


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Testbed]:
    with Testbed(tmp_path / "bed") as four_hosts:
        yield four_hosts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


def toy(
    bed: Testbed,
    folder: Path,
    *,
    steps: int = 150,
    options: dict[str, str] = PATIENCE,
    **changes: Any,
) -> SshToyRun:
    start = {
        "spec": {"config_file": str(bed.ssh_config), "options": options},
        "working_folder": str(folder.parent),
    }
    rules = {"max_restarts": 6}  # a laden machine may need a second try at a connection
    more = {"ssh": start, "supervision": rules} | changes
    return SshToyRun(bed, folder, *SAVING, steps=steps, **more)


def test_four_hosts_train_to_the_last_step(bed: Testbed, folder: Path) -> None:
    with toy(bed, folder, steps=40, controller_port=4601, rendezvous_port=4602) as run:
        code = run.end()

        assert code == 0, run.told
        assert {start.port for start in run.instructions(StartGeneration)} == {4602}
        hosts = {event.host for event in run.events(AgentJoined)}
        assert hosts == {"h1", "h2", "h3", "h4"}
        assert run.outcome["restarts"] == []
        assert bed.is_clean(within_s=GONE_S)


def test_a_killed_rank_costs_a_restart(bed: Testbed, folder: Path) -> None:
    with toy(bed, folder) as run:
        run.until_step(30)
        kill_rank(run, "h3")
        code = run.end()

        assert code == 0, run.told
        assert "rank 2 was ended by SIGKILL" in run.outcome["restarts"][0]["reason"]
        assert run.instructions(StartGeneration)[1].resume_step is not None
        assert bed.is_clean(within_s=GONE_S)


def test_a_killed_agent_is_started_again_by_ssh(bed: Testbed, folder: Path) -> None:
    with toy(bed, folder) as run:
        run.until_step(30)
        before = run.agents("h3")
        kill_agent(run, "h3")
        run.until_step(60, generation=2)
        after = run.agents("h3")
        code = run.end()

        assert code == 0, run.told
        assert "agent 2 on h3 is gone" in run.outcome["restarts"][0]["reason"]
        assert after
        assert not set(before) & set(after)
        assert bed.is_clean(within_s=GONE_S)


@pytest.mark.parametrize("side", ["here", "there"])
def test_a_lost_ssh_connection_costs_nothing(bed: Testbed, folder: Path, side: str) -> None:
    with toy(bed, folder, steps=300) as run:
        run.until_step(30)
        before = run.agents("h3")
        lost = run.clients("h3") if side == "here" else bed.host("h3").sessions()
        end(lost)
        # Another ssh looks, finds the agent, and keeps it in sight.
        seen = eventually(lambda: set(run.clients("h3")) - set(lost) != set(), within_s=GONE_S)
        during = run.agents("h3")
        code = run.end()

        assert lost
        assert seen
        assert during == before
        assert code == 0, run.told
        assert run.outcome["restarts"] == []
        assert bed.is_clean(within_s=GONE_S)


def test_a_killed_controller_leaves_nothing_on_any_host(bed: Testbed, folder: Path) -> None:
    with toy(bed, folder, steps=100_000) as run:
        run.until_step(30)
        clients = [run.clients(host.name) for host in bed.hosts]
        kill_controller(run, "")
        own = [pid for pids in clients for pid in pids]

        assert all(clients)
        assert eventually(lambda: not any(map(is_alive, own)), within_s=GONE_S)
        assert bed.is_clean(within_s=FENCED_S)


def test_a_crashed_host_ends_the_run_on_all_others(bed: Testbed, folder: Path) -> None:
    with toy(bed, folder, steps=100_000) as run:
        run.until_step(30)
        crash_host(run, "h3")
        code = run.end()

        assert code == 6, run.told
        assert "agent 2 on h3 is gone" in run.outcome["reason"]
        assert bed.is_clean(within_s=GONE_S)
        assert run.replayed().phase is Phase.ENDED


def test_a_cut_host_is_given_up_and_fences_itself(bed: Testbed, folder: Path) -> None:
    few = {"max_restarts": 1}  # each is a vain connection of seconds
    with toy(bed, folder, steps=100_000, options=KEEN, supervision=few) as run:
        run.until_step(30)
        cut_cable(run, "h3")
        code = run.end()

        assert code == 6, run.told
        reason = run.outcome["restarts"][0]["reason"]
        assert "agent 2 on h3 is gone (the host does not answer" in reason
        assert bed.is_clean(within_s=FENCED_S)


@pytest.mark.parametrize("old_agent", ["frozen", pytest.param("awake", marks=pytest.mark.slow_e2e)])
def test_a_cable_that_is_plugged_in_again_brings_the_host_back(
    bed: Testbed, folder: Path, old_agent: str
) -> None:
    with toy(bed, folder, steps=200, options=KEEN, supervision=PATIENT_AGENTS) as run:
        run.until_step(30)
        before = run.agents("h3")
        cut_cable(run, "h3")
        if old_agent == "frozen":
            for pid in before:
                os.kill(pid, signal.SIGSTOP)
        run.until_sentence("agent 2 on h3 is gone (the host does not answer")
        meanwhile = run.agents("h3")
        bed.host("h3").heal()
        code = run.end()

        assert code == 0, run.told
        assert meanwhile == before
        assert not any(map(is_alive, before))
        assert bed.is_clean(within_s=GONE_S)


@pytest.mark.slow_e2e
@pytest.mark.parametrize(
    ("first", "second", "where"),
    [
        (first, second, where)
        for first, second in itertools.product(FAULTS, repeat=2)
        for where in ("same", "other")
        if first != "controller" or where == "same"
        if (first, second) != ("controller", "controller")
        if (first, second, where) != ("host", "host", "same")
    ],
)
def test_in_every_order(bed: Testbed, folder: Path, first: str, second: str, where: str) -> None:
    fatal = {first, second} & set(CODES)
    options = KEEN if "cable" in fatal else PATIENCE
    with toy(bed, folder, steps=100_000 if fatal else 200, options=options) as run:
        run.until_step(30)
        FAULTS[first](run, "h3")
        FAULTS[second](run, "h3" if where == "same" else "h2")
        code = run.end()

        expected = KILLED if "controller" in fatal else 6 if fatal else 0
        assert code == expected, run.told[-5:]
        assert bed.is_clean(within_s=FENCED_S), bed.processes()
        if "controller" not in fatal:
            assert run.replayed().phase is Phase.ENDED
        else:
            assert run.replayed().generation >= 1  # whole as far as it goes


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.mark.slow_e2e
def test_ranks_on_four_hosts_train_on_while_the_controller_is_killed(
    bed: Testbed, folder: Path
) -> None:
    rules = {"lease_s": 60.0}
    with toy(bed, folder, steps=1500, supervision=rules) as run:
        run.until_step(30)
        ranks = {host.name: run.ranks(host.name) for host in bed.hosts}
        kill_controller(run, "")
        with toy(bed, folder, steps=1500, supervision=rules) as resumed:
            resumed.until_sentence("all agents are back")
            after = {host.name: resumed.ranks(host.name) for host in bed.hosts}
            code = resumed.end()

            assert after == ranks
            assert code == 0, resumed.told[-5:]
            assert (resumed.outcome["generations"], resumed.outcome["restarts"]) == (1, [])
            assert bed.is_clean(within_s=GONE_S)
