"""What an agent does about each record, and about silence."""

import socket
from pathlib import Path

import pytest

from launch.agent.agent import Agent, AgentEnd
from launch.agent.options import AgentOptions
from launch.transport.link import Address
from launch.wire import (
    Beat,
    Hello,
    InstructionFailed,
    Leave,
    PortReserved,
    RankSlot,
    ReservePort,
    StartRanks,
    StopHow,
    StopRanks,
    Welcome,
)
from tests.fakes.clock import FakeClock
from tests.fakes.link import FakeLink
from tests.fakes.ranks import FakeRanks
from tests.fakes.reactor import FakeReactor

WELCOME = Welcome(epoch=3, beat_interval_s=0.5, lease_s=5.0)


class Scene:
    """An agent, its surroundings, and how often it has dialled."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.reactor = FakeReactor(self.clock)
        self.ranks = FakeRanks()
        self.dials = 0
        self.said: list[str] = []
        self.ends: list[AgentEnd] = []
        self.agent = Agent(
            options=AgentOptions(
                controller=Address(host="127.0.0.1", port=1),
                secret="s",
                run_directory=Path("/run"),
                agent_id=4,
                slots=2,
            ),
            clock=self.clock,
            timers=self.reactor,
            dial=lambda _: self._dial(),
            say=self.said.append,
            end=self.ends.append,
        )
        self.agent.begin(self.ranks)
        self.link = FakeLink(self.agent)

    def _dial(self) -> None:
        self.dials += 1

    def welcomed(self) -> "Scene":
        self.agent.opened(self.link)
        self.agent.received(self.link, WELCOME)
        return self

    def last(self, kind: type):
        return next(record for record in reversed(self.link.sent) if isinstance(record, kind))


@pytest.fixture
def scene() -> Scene:
    return Scene()


def start_of(*ranks: int, generation: int = 1) -> StartRanks:
    return StartRanks(
        generation=generation,
        ranks=tuple(RankSlot(rank=rank, local_rank=i) for i, rank in enumerate(ranks)),
        argv=("true",),
        env={},
        world_size=4,
        local_world_size=2,
        group_rank=1,
        master_addr="h",
        master_port=1,
        resume_from=None,
        log_dir="/run/logs",
    )


def test_an_agent_dials_at_once_and_says_who_it_is(scene) -> None:
    scene.agent.opened(scene.link)

    hello = scene.last(Hello)
    assert scene.dials == 1
    assert (hello.agent_id, hello.slots, hello.host) == (4, 2, socket.gethostname())
    assert (hello.generation, hello.ranks) == (0, ())


def test_before_the_welcome_nothing_is_obeyed(scene) -> None:
    scene.agent.opened(scene.link)

    scene.agent.received(scene.link, start_of(2, 3))

    assert scene.link.closed_because == "start before welcome"
    assert scene.ranks.running == ()


def test_ranks_start_and_stop_as_told(scene) -> None:
    scene.welcomed()
    stop = StopRanks(generation=1, how=StopHow.SAVE, grace_s=9.0)

    scene.agent.received(scene.link, start_of(2, 3))
    scene.agent.received(scene.link, stop)

    assert scene.ranks.running == (2, 3)
    assert scene.ranks.stops == [stop]


def test_beats_carry_the_marks_at_the_controllers_interval(scene) -> None:
    scene.welcomed()
    scene.agent.received(scene.link, start_of(2, 3))
    before = scene.link.kinds().count("beat")

    scene.reactor.advance(2.0)

    beat = scene.last(Beat)
    assert scene.link.kinds().count("beat") - before == 4
    assert [(rank.rank, rank.step, rank.label) for rank in beat.ranks] == [
        (2, 2, "go"),
        (3, 2, "go"),
    ]


def test_a_port_is_reserved_and_nobody_else_gets_it(scene) -> None:
    scene.welcomed()

    scene.agent.received(scene.link, ReservePort(generation=1, port=None))

    port = scene.last(PortReserved).port
    with socket.socket() as rival, pytest.raises(OSError, match="in use"):
        rival.bind(("127.0.0.1", port))


def test_a_reserved_port_is_free_when_the_ranks_start(scene) -> None:
    scene.welcomed()
    scene.agent.received(scene.link, ReservePort(generation=1, port=None))
    port = scene.last(PortReserved).port

    scene.agent.received(scene.link, start_of(0))

    with socket.create_server(("127.0.0.1", port)) as server:
        assert server.getsockname()[1] == port


def test_a_port_in_use_is_reported_by_its_number(scene) -> None:
    scene.welcomed()
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = taken.getsockname()[1]
        scene.agent.received(scene.link, ReservePort(generation=1, port=port))

    failed = scene.last(InstructionFailed)
    assert f"port {port} on {socket.gethostname()}: " in failed.reason
    assert "in use" in failed.reason


def test_ranks_go_on_while_the_agent_dials_again(scene) -> None:
    scene.welcomed()
    scene.agent.received(scene.link, start_of(2, 3))

    scene.link.close("cable cut")
    scene.reactor.advance(1.0)

    assert scene.dials == 2
    assert scene.ranks.running == (2, 3)


def test_an_agent_that_comes_back_says_what_still_runs(scene) -> None:
    scene.welcomed()
    scene.agent.received(scene.link, start_of(2, 3, generation=7))
    scene.link.close("cable cut")
    again = FakeLink(scene.agent)

    scene.agent.opened(again)

    hello = again.sent[0]
    assert (hello.epoch, hello.generation, hello.ranks) == (3, 7, (2, 3))


def test_dialling_pauses_grow_up_to_two_seconds(scene) -> None:
    for _ in range(20):
        scene.agent.refused("nobody there")
        dials = scene.dials
        scene.reactor.advance(2.0)

        assert scene.dials == dials + 1
    assert scene.reactor.is_stopped is False


def test_without_a_controller_for_a_lease_the_ranks_are_killed(scene) -> None:
    scene.welcomed()
    scene.agent.received(scene.link, start_of(2, 3))
    scene.link.close("controller died")

    scene.reactor.advance(WELCOME.lease_s - 0.1)
    before = scene.ranks.is_killed
    scene.reactor.advance(1.5)

    assert (before, scene.ranks.is_killed) == (False, True)
    assert scene.ends == [AgentEnd.FENCED]


def test_a_controller_that_is_silent_on_a_living_connection_counts_as_gone(scene) -> None:
    scene.welcomed()

    scene.reactor.advance(WELCOME.lease_s + 1.5)

    assert scene.ends == [AgentEnd.FENCED]


def test_a_repeated_welcome_is_a_sign_of_life(scene) -> None:
    scene.welcomed()

    for _ in range(4):
        scene.reactor.advance(WELCOME.lease_s - 1.0)
        scene.agent.received(scene.link, WELCOME)

    assert scene.ends == []


def test_an_agent_nobody_ever_answers_gives_up_after_a_minute(scene) -> None:
    scene.reactor.advance(59.0)
    before = list(scene.ends)
    scene.reactor.advance(2.0)

    assert (before, scene.ends) == ([], [AgentEnd.FENCED])


def test_a_controller_of_an_older_epoch_is_not_obeyed(scene) -> None:
    scene.welcomed()
    scene.link.close("cable cut")
    old = FakeLink(scene.agent)
    scene.agent.opened(old)

    scene.agent.received(old, Welcome(epoch=2, beat_interval_s=0.5, lease_s=5.0))

    assert old.closed_because == "epoch 2 is over, 3 reigns"


def test_leave_kills_the_ranks_and_ends(scene) -> None:
    scene.welcomed()
    scene.agent.received(scene.link, start_of(2, 3))

    scene.agent.received(scene.link, Leave())

    assert scene.ranks.is_killed
    assert scene.ends == [AgentEnd.LEFT]
