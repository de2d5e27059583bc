"""Whatever is killed, and in which order: nothing that a run started outlives it.

Each rank leaves a helper behind that no signal to a group reaches, no parent owns, and no variable
of the environment betrays.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.supervised import ToyRun, all_end

LEASE_S = 1.0
GONE_S = 10.0  # generous: a busy machine reaps late


class Family:
    """A run in the middle of training, and everybody in it by name."""

    def __init__(self, run: ToyRun, folder: Path) -> None:
        self.run = run
        agent = run.agent_pid()
        self.pids = {
            "controller": run.process.pid,
            "warden": parent_of(agent),
            "agent": agent,
            "rank": run.rank_pid(0),
        }
        helpers = [int(note.read_text()) for note in folder.glob("helper-*")]
        self.everybody = [*self.pids.values(), *run.pids(), *helpers]
        assert len(helpers) == 2
        # By descriptor: a number may be another process's by the time the test cleans up.
        self.handles = [os.pidfd_open(pid) for pid in set(self.everybody)]

    def kill(self, name: str) -> None:
        os.kill(self.pids[name], signal.SIGKILL)
        if name == "controller":
            self.run.process.wait()


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.fixture
def family(tmp_path) -> Iterator[Family]:
    rules = {"lease_s": LEASE_S, "max_restarts": 0}
    arguments = ("--spawn-helper", tmp_path / "helper")
    with ToyRun(tmp_path / "run", *arguments, steps=100_000, supervision=rules) as run:
        run.until_step(10)
        made = Family(run, tmp_path)
        yield made
        for handle in made.handles:
            end(handle)


def end(handle: int) -> None:
    try:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    except ProcessLookupError:
        pass
    finally:
        os.close(handle)


@pytest.mark.parametrize(
    "order",
    ["rank", "agent", "warden", "controller", "agent controller", "warden controller",
     "controller agent", "controller warden", "rank controller warden"],
)  # fmt: skip
def test_nothing_is_left_whatever_was_killed_in_which_order(family: Family, order: str) -> None:
    for name in order.split():
        family.kill(name)

    assert all_end(family.everybody, within_s=LEASE_S + GONE_S)


def test_ranks_die_even_when_warden_and_agent_are_killed_at_once(family: Family) -> None:
    ranks = [family.run.rank_pid(0), family.run.rank_pid(1)]
    os.kill(family.pids["agent"], signal.SIGSTOP)  # it shall have no time to clean up

    family.kill("warden")
    family.kill("agent")

    assert all_end(ranks, within_s=GONE_S)


def test_the_warden_ends_even_a_frozen_agent_when_it_is_told_to(family: Family) -> None:
    """It is what a controller does about an agent that does not go."""
    os.kill(family.pids["agent"], signal.SIGSTOP)

    os.kill(family.pids["warden"], signal.SIGTERM)

    assert all_end(family.everybody, within_s=LEASE_S + GONE_S)
