"""The agents of a run, and which life of them counts."""

from pathlib import Path

import pytest

from launch.supervisor.events import AgentAttached, AgentJoined, AgentLost, AgentPlace, Event
from launch.supervisor.roster import AgentCall, Roster
from launch.transport.link import Address
from launch.wire import Beat, Exited, Hello, PortReserved, RankBeat, Started, ToController, Welcome
from tests.fakes.agents import FakeStarter
from tests.fakes.clock import FakeClock
from tests.fakes.link import FakeLink
from tests.fakes.reactor import FakeReactor

WELCOME = Welcome(epoch=1, beat_interval_s=0.5, lease_s=8.0)
PORT = PortReserved(generation=1, port=5)


class Owner:
    def __init__(self) -> None:
        self.events: list[Event] = []
        self.records: list[tuple[int, ToController]] = []

    def post(self, event: Event) -> None:
        self.events.append(event)

    def heard(self, agent_id: int, record: ToController) -> None:
        self.records.append((agent_id, record))

    def kinds(self) -> list[str]:
        return [event.KIND for event in self.events]


class Scene:
    """Two agents of two ranks each; nothing is started yet."""

    def __init__(self, folder: Path) -> None:
        clock = FakeClock()
        self.reactor = FakeReactor(clock)
        self.owner = Owner()
        self.starter = FakeStarter()
        self.log = folder / "controller.log"
        self.roster = Roster(
            starter=self.starter,
            welcome=WELCOME,
            reactor=self.reactor,
            clock=clock,
            log=self.log,
            owner=self.owner,
        )
        self.roster.expect(call_of(agent_id, folder) for agent_id in (0, 1))

    def connect(self, agent_id: int, *, ranks: tuple[int, ...] = ()) -> FakeLink:
        link = FakeLink(self.roster)
        self.roster.opened(link)
        self.roster.received(link, hello_of(agent_id, ranks=ranks))
        return link

    def joined(self, agent_id: int) -> FakeLink:
        self.roster.start(agent_id)
        return self.connect(agent_id)


def call_of(agent_id: int, folder: Path) -> AgentCall:
    return AgentCall(
        place=AgentPlace(agent_id=agent_id, address="h", first_rank=2 * agent_id, slots=2),
        controller=Address(host="h", port=1),
        secret_file=folder / "secret",
        run_directory=folder,
        archive=folder / "agent.pyz",
        log=folder / "agent.log",
    )


def hello_of(agent_id: int, *, ranks: tuple[int, ...] = ()) -> Hello:
    return Hello(
        host="h",
        agent_id=agent_id,
        pid=70 + agent_id,
        slots=2,
        version="0",
        epoch=0,
        generation=0,
        ranks=ranks,
    )


@pytest.fixture
def scene(tmp_path) -> Scene:
    return Scene(tmp_path)


def test_a_started_agent_that_connects_is_welcome_and_joins(scene) -> None:
    link = scene.joined(1)

    assert link.sent == [WELCOME]
    assert scene.owner.events == [AgentJoined(at_s=1_000.0, agent_id=1, host="h", pid=71)]


def test_what_a_present_agent_says_is_passed_on_with_its_number(scene) -> None:
    link = scene.joined(1)

    scene.roster.received(link, PORT)

    assert scene.owner.records == [(1, PORT)]


def test_beats_are_kept_and_passed_on(scene) -> None:
    link = scene.joined(1)
    mark = RankBeat(rank=2, pid=3, seq=4, step=5, mark_age_s=0.1, label="all_reduce tp")
    beat = Beat(monotonic_s=1.0, ranks=(mark,))

    scene.roster.received(link, beat)

    assert scene.roster.beats == {1: beat}
    assert scene.owner.records == [(1, beat)]


def test_a_record_before_hello_closes_the_connection(scene) -> None:
    link = FakeLink(scene.roster)
    scene.roster.opened(link)

    scene.roster.received(link, PORT)

    assert link.closed_because == "port before hello"
    assert scene.owner.events == []


def test_an_agent_that_is_not_awaited_is_turned_away(scene) -> None:
    link = scene.connect(9)

    assert link.closed_because == "hello of agent 9, which is not awaited"


@pytest.mark.parametrize(
    "record",
    [
        Started(generation=1, rank=0, pid=5),
        Exited(generation=1, rank=0, pid=5, exit_code=0, signal=None, tail=()),
    ],
    ids=["started", "exited"],
)
def test_an_agent_may_not_speak_for_the_ranks_of_another(scene, record) -> None:
    link = scene.joined(1)

    scene.roster.received(link, record)

    assert link.closed_because == f"{record.KIND} of a rank that is not its own"
    assert scene.owner.records == []


def test_a_broken_connection_is_the_loss_of_the_agent(scene) -> None:
    link = scene.joined(0)

    link.close("closed by the other side")

    assert scene.owner.events[-1] == AgentLost(
        at_s=1_000.0, agent_id=0, reason="connection closed by the other side; its log is agent.log"
    )


def test_an_agent_whose_process_and_connection_both_end_is_lost_once(scene) -> None:
    link = scene.joined(0)

    link.close("closed by the other side")
    scene.starter.started[0].end("signal SIGKILL")

    assert scene.owner.kinds() == ["agent_joined", "agent_lost"]


def test_an_agent_that_ends_before_it_connects_is_lost(scene) -> None:
    scene.roster.start(0)

    scene.starter.started[0].end("exit code 1")

    assert [event.reason for event in scene.owner.events] == ["exit code 1; its log is agent.log"]


def test_an_agent_that_cannot_be_started_is_lost(scene) -> None:
    scene.starter.problem = "no such file"

    scene.roster.start(0)
    scene.reactor.settle()

    assert scene.owner.events[0].reason.startswith("cannot start python3: no such file")


def test_a_new_life_waits_for_the_old_process_to_end(scene) -> None:
    scene.joined(0).close("cable cut")

    scene.roster.start(0)
    before = (len(scene.starter.started), scene.starter.started[0].is_killed)
    scene.starter.started[0].end("signal SIGKILL")

    assert before == (1, True)
    assert len(scene.starter.started) == 2


def test_the_old_life_cannot_come_back(scene) -> None:
    scene.joined(0).close("cable cut")

    link = scene.connect(0)

    assert link.closed_because == "this life of the agent is over"
    assert scene.owner.kinds() == ["agent_joined", "agent_lost"]


def test_a_second_connection_of_one_agent_ends_its_life(scene) -> None:
    first = scene.joined(0)

    second = scene.connect(0)

    assert first.closed_because == second.closed_because == "this life of the agent is over"
    assert scene.owner.kinds() == ["agent_joined", "agent_lost"]


def test_an_agent_that_still_runs_ranks_is_not_taken_back(scene) -> None:
    scene.roster.start(0)

    scene.connect(0, ranks=(0, 1))

    assert scene.owner.kinds() == ["agent_lost"]


def test_a_sign_of_life_goes_out_four_times_a_lease(scene) -> None:
    link = scene.joined(0)

    scene.reactor.advance(WELCOME.lease_s)

    assert link.kinds() == ["welcome"] * 5


def test_dismissed_agents_are_told_to_leave_and_waited_for(scene) -> None:
    links = [scene.joined(0), scene.joined(1)]
    gone: list[str] = []

    scene.roster.dismiss(within_s=10.0, then=lambda: gone.append("all"))
    scene.starter.started[0].end("exit code 0")
    before = list(gone)
    scene.starter.started[1].end("exit code 0")

    assert [link.kinds()[-1] for link in links] == ["leave", "leave"]
    assert (before, gone) == ([], ["all"])
    assert scene.owner.kinds() == ["agent_joined", "agent_joined"]


def test_an_agent_that_does_not_leave_is_killed(scene) -> None:
    scene.joined(0)
    scene.roster.dismiss(within_s=10.0, then=lambda: None)

    scene.reactor.advance(10.0)

    assert scene.starter.started[0].is_killed


def test_refused_connections_are_logged_up_to_a_limit(scene) -> None:
    for number in range(1_000):
        scene.roster.refused(f"10.0.0.9:{number}: wrong proof")

    lines = scene.log.read_text().splitlines()
    assert len(lines) == 202
    assert lines[-1] == (
        "1000.000 refused 512 connections by now, the last: 10.0.0.9:511: wrong proof"
    )
    assert lines[0] == "1000.000 refused 10.0.0.9:0: wrong proof"
    assert scene.owner.events == []


def test_a_log_that_cannot_be_written_does_not_let_a_stranger_end_the_run(scene) -> None:
    scene.log.mkdir()

    scene.roster.refused("10.0.0.9:1: wrong proof")

    assert scene.owner.events == []


def test_an_agent_of_a_dead_controller_is_taken_back_with_its_ranks(scene) -> None:
    scene.roster.attach(1)

    link = scene.connect(1, ranks=(2, 3))

    assert link.sent == [WELCOME]
    (back,) = scene.owner.events
    assert isinstance(back, AgentAttached)
    assert (back.agent_id, back.ranks) == (1, (2, 3))


def test_an_agent_that_nobody_finds_is_lost(scene) -> None:
    scene.roster.attach(1)

    scene.starter.started[0].end("it is gone")

    assert scene.owner.kinds() == ["agent_lost"]


def test_an_agent_that_came_too_late_to_be_taken_back_is_turned_away(scene) -> None:
    scene.roster.attach(1)
    scene.roster.start(1)

    link = scene.connect(1, ranks=(2, 3))

    assert link.closed_because == "this life of the agent is over"
    assert scene.starter.started[0].is_killed
    assert scene.owner.events == []
