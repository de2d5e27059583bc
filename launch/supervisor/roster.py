"""The agents of a run: their processes, their connections, and which life of them counts.

An agent is started, connects, and is lost at most once per life, whether its process ends, its
connection breaks, or it comes back with ranks nobody asked it to keep. A new life begins only when
the old process has ended, so two lives of one agent never run ranks side by side.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from launch.clock import Clock
from launch.supervisor.events import AgentAttached, AgentJoined, AgentLost, AgentPlace, Event
from launch.transport.link import Address, Link
from launch.transport.processes import StartError
from launch.transport.reactor import Reactor
from launch.wire import (
    Beat,
    Exited,
    Hello,
    Leave,
    RankLine,
    Started,
    ToAgent,
    ToController,
    Warm,
    Welcome,
)

_LOGGED_REFUSALS = 200  # a stranger may knock for ever; the log may not grow for ever
_SIGNS_PER_LEASE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentCall:
    """All that a launcher needs to start an agent; the secret passes as the name of a file."""

    place: AgentPlace
    controller: Address
    secret_file: Path
    run_directory: Path
    archive: Path
    log: Path


class AgentProcess(Protocol):
    """A started agent."""

    def kill(self) -> None:
        """Kill it; `ended` follows."""


class AgentStarter(Protocol):
    """How a launcher starts agents."""

    def start(
        self, call: AgentCall, *, reactor: Reactor, ended: Callable[[str], None]
    ) -> AgentProcess:
        """Start an agent, and call `ended` with the reason when it is gone.

        Raises:
            StartError: it cannot be started.
        """

    def adopt(
        self, call: AgentCall, *, reactor: Reactor, ended: Callable[[str], None]
    ) -> AgentProcess:
        """Watch an agent that a dead controller started; `ended` follows where there is none."""


@dataclass(slots=True, kw_only=True)
class _Seat:
    """One agent's place, and what is known about its present life."""

    call: AgentCall
    process: AgentProcess | None = None
    link: Link | None = None
    beat: Beat | None = None
    is_lost: bool = True
    is_attaching: bool = False  # a dead controller started it: it may come back with ranks
    is_wanted: bool = False  # a new life is to begin when the old process has ended


class RosterOwner(Protocol):
    """Who is told about agents."""

    def post(self, event: Event) -> None:
        """An agent came or went."""

    def heard(self, agent_id: int, record: ToController) -> None:
        """A present agent said something."""


class Roster:
    """Keeps the agents; tells its owner what happens to them."""

    def __init__(
        self,
        *,
        starter: AgentStarter,
        welcome: Welcome,
        reactor: Reactor,
        clock: Clock,
        log: Path,
        owner: RosterOwner,
    ) -> None:
        self._seats: dict[int, _Seat] = {}
        self._seat_of: dict[Link, _Seat] = {}
        self._starter = starter
        self._welcome = welcome
        self._warm: Warm | None = None
        self._reactor = reactor
        self._clock = clock
        self._log = log
        self._owner = owner
        self._refusals = 0
        self._all_gone: Callable[[], None] | None = None
        reactor.call_after(welcome.lease_s / _SIGNS_PER_LEASE, self._give_signs)

    def expect(self, calls: Iterable[AgentCall], *, warm: Warm | None = None) -> None:
        """Say which agents there are, and what each keeps ready; none is started yet."""
        self._warm = warm
        self._seats = {call.place.agent_id: _Seat(call=call) for call in calls}

    @property
    def beats(self) -> dict[int, Beat]:
        """The last beat of each agent that is here."""
        return {i: seat.beat for i, seat in self._seats.items() if seat.link and seat.beat}

    def is_agent(self, link: Link) -> bool:
        """Whether a connection is a present agent's."""
        return link in self._seat_of

    def is_here(self, agent_id: int) -> bool:
        """Whether an agent is connected."""
        return self._seats[agent_id].link is not None

    def start(self, agent_id: int) -> None:
        """Begin a new life of an agent, after the old one."""
        seat = self._seats[agent_id]
        if seat.process is None:
            self._start_now(seat)
            return
        seat.is_wanted = seat.is_lost = True
        seat.process.kill()

    def attach(self, agent_id: int) -> None:
        """Wait for an agent that a dead controller started, as long as it lives."""
        seat = self._seats[agent_id]
        seat.is_lost, seat.is_attaching = False, True
        seat.process = self._starter.adopt(
            seat.call,
            reactor=self._reactor,
            ended=lambda reason: self._on_end(seat, reason),
        )

    def send(self, agent_id: int, record: ToAgent) -> None:
        """Send to an agent; to one that is gone nothing is sent, and its loss is known."""
        link = self._seats[agent_id].link
        if link is not None:
            link.send(record)

    def send_all(self, record: ToAgent) -> None:
        """Send to every agent that is here."""
        for agent_id in self._seats:
            self.send(agent_id, record)

    def dismiss(self, *, within_s: float, then: Callable[[], None]) -> None:
        """Send the agents away, kill those that do not go, and go on when all are gone."""
        self._all_gone = then
        for seat in self._seats.values():
            seat.is_lost = True
            seat.is_wanted = False
        self.send_all(Leave())
        self._reactor.call_after(within_s, self.kill_all)
        self._check_all_gone()

    def kill_all(self) -> None:
        """Kill every agent process; their ranks die with them."""
        for seat in self._seats.values():
            if seat.process is not None:
                seat.process.kill()

    def opened(self, link: Link) -> None:
        """Somebody who knows the secret connected; `hello` will say who."""

    def received(self, link: Link, record: ToController) -> None:
        """Pass on what a present agent says."""
        if isinstance(record, Hello):
            self._on_hello(link, record)
            return
        seat = self._seat_of.get(link)
        if seat is None:
            link.close(f"{record.KIND} before hello")
        elif isinstance(record, Beat):
            seat.beat = record
            self._owner.heard(seat.call.place.agent_id, record)
        elif _is_foreign(seat, record):
            link.close(f"{record.KIND} of a rank that is not its own")
        else:
            self._owner.heard(seat.call.place.agent_id, record)

    def skipped(self, link: Link, reason: str) -> None:  # noqa: ARG002 - the kind says enough
        """Note a record of a newer agent."""
        self.refused(reason)

    def refused(self, reason: str) -> None:
        """Write one line about a connection that came to nothing."""
        self._refusals += 1
        count = self._refusals
        if count > _LOGGED_REFUSALS:
            if count & (count - 1):  # from there on each time their number has doubled
                return
            reason = f"{count} connections by now, the last: {reason}"
        with suppress(OSError), self._log.open("a") as file:  # a stranger may not end the run
            file.write(f"{self._clock.wall_s():.3f} refused {reason}\n")

    def lost(self, link: Link, reason: str) -> None:
        """An agent's connection is gone, and this life of it with it."""
        seat = self._seat_of.pop(link, None)
        if seat is not None:
            seat.link = None
            self._lose(seat, f"connection {reason}")

    def _start_now(self, seat: _Seat) -> None:
        seat.is_lost = seat.is_attaching = False
        try:
            seat.process = self._starter.start(
                seat.call,
                reactor=self._reactor,
                ended=lambda reason: self._on_end(seat, reason),
            )
        except StartError as error:
            reason = error.reason
            self._reactor.call_soon(lambda: self._lose(seat, reason))

    def _on_end(self, seat: _Seat, reason: str) -> None:
        seat.process = None
        if seat.is_wanted:
            seat.is_wanted = False
            self._start_now(seat)
        else:
            self._lose(seat, reason)
        self._check_all_gone()

    def _on_hello(self, link: Link, hello: Hello) -> None:
        seat = self._seats.get(hello.agent_id)
        if seat is None or link in self._seat_of:
            link.close(f"hello of agent {hello.agent_id}, which is not awaited")
        elif seat.is_attaching and not seat.is_lost and seat.link is None:
            self._take_back(seat, link, hello)
        elif seat.is_lost or seat.link is not None or hello.ranks:
            link.close("this life of the agent is over")
            self._lose(seat, "it came back in the middle of a life")
        else:
            self._greet(seat, link)
            self._owner.post(
                AgentJoined(
                    at_s=self._clock.wall_s(),
                    agent_id=hello.agent_id,
                    host=hello.host,
                    pid=hello.pid,
                )
            )

    def _greet(self, seat: _Seat, link: Link) -> None:
        seat.link, self._seat_of[link] = link, seat
        link.send(self._welcome)
        if self._warm is not None:  # long before ranks start: a spare has time to import
            link.send(self._warm)

    def _take_back(self, seat: _Seat, link: Link, hello: Hello) -> None:
        """An agent came back; after its welcome it tells again what it had to say."""
        seat.is_attaching = False
        self._greet(seat, link)
        self._owner.post(
            AgentAttached(
                at_s=self._clock.wall_s(),
                agent_id=hello.agent_id,
                host=hello.host,
                pid=hello.pid,
                generation=hello.generation,
                ranks=hello.ranks,
            )
        )

    def _lose(self, seat: _Seat, reason: str) -> None:
        if seat.is_lost:
            return
        seat.is_lost, seat.is_attaching = True, False
        seat.beat = None
        if seat.link is not None:
            link, seat.link = seat.link, None
            del self._seat_of[link]
            link.close("this life of the agent is over")
        self._owner.post(
            AgentLost(
                at_s=self._clock.wall_s(),
                agent_id=seat.call.place.agent_id,
                reason=f"{reason}; its log is {seat.call.log.name}",
            )
        )

    def _give_signs(self) -> None:
        self.send_all(self._welcome)
        self._reactor.call_after(self._welcome.lease_s / _SIGNS_PER_LEASE, self._give_signs)

    def _check_all_gone(self) -> None:
        if self._all_gone is not None and all(s.process is None for s in self._seats.values()):
            then, self._all_gone = self._all_gone, None
            then()


def _is_foreign(seat: _Seat, record: ToController) -> bool:
    if not isinstance(record, Started | RankLine | Exited):
        return False
    place = seat.call.place
    return not place.first_rank <= record.rank < place.first_rank + place.slots
