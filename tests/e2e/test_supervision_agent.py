"""A real agent process under a controller that is a test: what it says, and what it cleans up."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launch.agent.archive import build_zipapp
from launch.agent.environment import AGENT_MARKER
from launch.clock import SystemClock
from launch.launchers.local import ChildAgent, ChildAgents, agent_argv
from launch.run_directory import RunDirectory
from launch.supervisor.events import AgentJoined, AgentLost, AgentPlace, Event
from launch.supervisor.roster import AgentCall, AgentStarter, Roster
from launch.transport.link import Address, listen
from launch.transport.processes import (
    ProcessOrder,
    kill_group,
    processes_with,
    start_independent,
)
from launch.transport.reactor import Reactor
from launch.wire import (
    Exited,
    InstructionFailed,
    PortReserved,
    RankBeat,
    RankLine,
    RankSlot,
    ReservePort,
    Started,
    StartRanks,
    StopHow,
    StopRanks,
    ToController,
    Welcome,
)
from tests.e2e.supervised import all_end
from tests.e2e.toy_run import toy_request
from tests.e2e.unread import fill

LIMIT_S = 30.0
GONE_S = 5.0
PLACE = AgentPlace(agent_id=0, address="127.0.0.1", first_rank=0, slots=2)


class Desk:
    """A controller's desk without a state machine: the test says what is to be done when."""

    def __init__(
        self, folder: Path, *, starter: AgentStarter | None = None, lease_s: float = 10.0
    ) -> None:
        self.directory = RunDirectory.create(folder)
        build_zipapp(self.directory.agent_archive)
        self.directory.generation_logs(1).mkdir()
        self.directory.generation_staging(1).mkdir(parents=True)
        self.reactor = Reactor()
        self.roster = Roster(
            starter=starter or ChildAgents(),
            welcome=Welcome(epoch=1, beat_interval_s=0.02, lease_s=lease_s),
            reactor=self.reactor,
            clock=SystemClock(),
            log=self.directory.controller_log,
            owner=self,
        )
        self.heard_records: list[ToController] = []
        self.events: list[Event] = []
        self.is_late = False
        self.on_record: Callable[[ToController], None] = lambda _: None
        self.on_event: Callable[[Event], None] = lambda _: None

    def post(self, event: Event) -> None:
        self.events.append(event)
        self.on_event(event)

    def heard(self, agent_id: int, record: ToController) -> None:
        assert agent_id == PLACE.agent_id
        self.heard_records.append(record)
        self.on_record(record)

    def run(self) -> None:
        """Run until the test calls `done`; fails past the limit."""
        port = listen(
            self.reactor,
            address=Address(host="127.0.0.1", port=0),
            secret=self.directory.make_secret(),
            owner=self.roster,
        )
        self.roster.expect([self._call(port)])
        self.roster.start(0)
        self.reactor.call_after(LIMIT_S, self._give_up)
        try:
            self.reactor.run()
        finally:
            self.roster.kill_all()
            self.reactor.close()
            self.directory.forget_secret()
        assert not self.is_late, f"nothing more came after {self.heard_records[-5:]}"

    def done(self) -> None:
        self.roster.dismiss(within_s=LIMIT_S, then=self.reactor.stop)

    def records(self, kind: type) -> list:
        return [record for record in self.heard_records if isinstance(record, kind)]

    def start(self, *toy_arguments: str, argv: tuple[str, ...] | None = None, port: int) -> None:
        command = toy_request({"steps": 100_000}, list(toy_arguments)).argv
        toy = Path(__file__).with_name("toy_rank.py")
        self.roster.send(
            0,
            StartRanks(
                generation=1,
                ranks=(RankSlot(rank=0, local_rank=0), RankSlot(rank=1, local_rank=1)),
                argv=argv or tuple(w.replace("{bundle}/toy_rank.py", str(toy)) for w in command),
                env={"LLMORCH_STAGING_DIR": str(self.directory.generation_staging(1))},
                world_size=2,
                local_world_size=2,
                group_rank=0,
                master_addr="127.0.0.1",
                master_port=port,
                resume_from=None,
                log_dir=str(self.directory.generation_logs(1)),
            ),
        )

    def _give_up(self) -> None:
        self.is_late = True
        self.reactor.stop()

    def _call(self, port: int) -> AgentCall:
        return AgentCall(
            place=PLACE,
            controller=Address(host="127.0.0.1", port=port),
            secret_file=self.directory.secret,
            run_directory=self.directory.path,
            archive=self.directory.agent_archive,
            log=self.directory.agent_log(0),
        )


@pytest.fixture
def desk(tmp_path) -> Iterator[Desk]:
    made = Desk(tmp_path / "run")
    yield made
    for started in made.records(Started):  # what a failed test leaves, frozen or not
        kill_group(started.pid)


def start_when_ready(desk: Desk, *toy_arguments: str, then: Callable[[ToController], None]) -> None:
    """Start toy ranks as soon as the agent is here, and hand every later record to `then`."""

    def on_record(record: ToController) -> None:
        if isinstance(record, PortReserved):
            desk.start(*toy_arguments, port=record.port)
        then(record)

    desk.on_event = lambda _: desk.roster.send(0, ReservePort(generation=1, port=None))
    desk.on_record = on_record


def test_beats_carry_the_marks_of_both_ranks(desk) -> None:
    seen: list[RankBeat] = []

    def look(_: ToController) -> None:
        beat = desk.roster.beats.get(0)
        if beat and len(beat.ranks) == 2 and all((r.step or 0) >= 3 for r in beat.ranks):
            seen.extend(beat.ranks)
            desk.on_record = lambda _: None
            desk.done()

    start_when_ready(desk, then=look)

    desk.run()

    started = {record.rank: record.pid for record in desk.records(Started)}
    assert {mark.rank: mark.pid for mark in seen} == started
    for mark in seen:
        assert (mark.seq, mark.label) == (mark.step, f"barrier world 0-1 #{mark.step}")
        assert 0.0 <= mark.mark_age_s < LIMIT_S


def test_what_a_rank_said_last_comes_before_its_exit(desk) -> None:
    def look(_: ToController) -> None:
        if len(desk.records(Exited)) == 2:
            desk.on_record = lambda _: None
            desk.done()

    start_when_ready(desk, "--refuse", "no such layout", then=look)

    desk.run()

    for rank in (0, 1):
        of_rank = [r for r in desk.records((RankLine, Exited)) if r.rank == rank]
        assert of_rank[-2].record.KIND == "refused"
        assert (of_rank[-1].exit_code, of_rank[-1].signal) == (5, None)


def test_a_rank_that_ignores_the_request_is_killed_when_the_grace_ends(desk) -> None:
    def look(record: ToController) -> None:
        lines = [r for r in desk.records(RankLine) if r.record.KIND == "step"]
        if len(lines) == 1 and isinstance(record, RankLine) and record.record.KIND == "step":
            os.kill(desk.records(Started)[1].pid, signal.SIGSTOP)
            desk.roster.send(0, StopRanks(generation=1, how=StopHow.SAVE, grace_s=0.2))
        if len(desk.records(Exited)) == 2:
            desk.on_record = lambda _: None
            desk.done()

    start_when_ready(desk, then=look)

    desk.run()

    assert {record.signal for record in desk.records(Exited)} == {signal.SIGKILL}


def test_when_one_rank_cannot_start_none_is_left(desk) -> None:
    def look(record: ToController) -> None:
        if isinstance(record, PortReserved):
            blocked = Path(desk.directory.generation_logs(1)) / "rank-1.log"
            blocked.mkdir()  # rank 0 starts, rank 1's log cannot be opened
            desk.start(port=record.port)
        if isinstance(record, InstructionFailed):
            left.extend(processes_with(AGENT_MARKER, f"0@{desk.directory.path}"))
            desk.done()

    left: list[int] = []
    desk.on_event = lambda _: desk.roster.send(0, ReservePort(generation=1, port=None))
    desk.on_record = look

    desk.run()

    assert "rank-1.log: Is a directory" in desk.records(InstructionFailed)[0].reason
    assert desk.records(Started) == desk.records(Exited) == []
    assert left == []


def test_a_killed_agent_takes_even_frozen_ranks_along(desk) -> None:
    def look(record: ToController) -> None:
        if isinstance(record, RankLine) and record.record.KIND == "step":
            desk.on_record = lambda _: None
            desk.on_event = lambda _: desk.reactor.stop()
            for started in desk.records(Started):
                os.kill(started.pid, signal.SIGSTOP)
            joined = next(e for e in desk.events if isinstance(e, AgentJoined))
            os.kill(joined.pid, signal.SIGKILL)

    start_when_ready(desk, then=look)

    desk.run()

    assert isinstance(desk.events[-1], AgentLost)
    assert all_end([record.pid for record in desk.records(Started)], within_s=GONE_S)


def test_helpers_that_ranks_leave_behind_die_with_them(desk, tmp_path) -> None:
    """They are in sessions of their own, so no signal to a group of the rank reaches them."""
    are_gone: list[bool] = []

    def look(record: ToController) -> None:
        if isinstance(record, RankLine) and record.record.KIND == "step":
            desk.roster.send(0, StopRanks(generation=1, how=StopHow.KILL, grace_s=0.0))
        if len(desk.records(Exited)) == 2:
            desk.on_record = lambda _: None
            helpers = [int(path.read_text()) for path in sorted(tmp_path.glob("helper-*"))]
            are_gone.extend(all_end([pid], within_s=GONE_S) for pid in helpers)
            desk.done()

    start_when_ready(desk, "--spawn-helper", str(tmp_path / "helper"), then=look)

    desk.run()

    assert are_gone == [True, True]


class UnreadAgents:
    """Starts agents whose outputs are a pipe that is full, as behind an ssh that is stuck."""

    def __init__(self, speaking: int) -> None:
        self.speaking = speaking

    def start(self, call: AgentCall, *, reactor: Reactor, ended) -> ChildAgent:
        order = ProcessOrder(
            argv=agent_argv(call), env=os.environ, log=call.log, output=self.speaking
        )
        pid = start_independent(order)
        reactor.on_exit(pid, lambda status: ended(status.text))
        return ChildAgent(pid=pid)


def test_an_agent_whose_words_nobody_reads_fences_itself(tmp_path) -> None:
    listening, speaking = os.pipe()
    fill(speaking)
    desk = Desk(tmp_path / "run", starter=UnreadAgents(speaking), lease_s=1.0)
    have_ended: list[bool] = []

    def look(record: ToController) -> None:
        if isinstance(record, RankLine) and record.record.KIND == "step" and not have_ended:
            # The controller is busy here, as if frozen: nothing is sent, no connection breaks.
            pids = [started.pid for started in desk.records(Started)]
            have_ended.append(all_end(pids, within_s=1.0 + GONE_S))
            desk.reactor.stop()

    start_when_ready(desk, then=look)

    desk.run()

    os.close(listening)
    os.close(speaking)
    assert have_ended == [True]
