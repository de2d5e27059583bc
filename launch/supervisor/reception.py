"""Whoever connects to the controller: agents go to the roster, visitors are answered here.

A visitor is a person's command (`llmorch stop`, `runs`, `logs`), on any host that sees the run
directory and may read the secret in it. It says so with its first record; what it asks is done as
if the controller had been asked by a signal, so nothing is decided here.
"""

from collections.abc import Mapping
from itertools import count
from typing import Protocol

from launch.supervisor.events import AgentPlace
from launch.supervisor.roster import Roster
from launch.transport.link import Link
from launch.wire import AskLog, AskStop, LogPiece, ReadLog, Status, StopHow, ToListener, Visit

_MOST_LINES = 10_000
_MOST_TICKETS = 4096  # questions that agents have not answered


class Desk(Protocol):
    """Who knows the run, and passes on what is asked of it."""

    def status(self) -> Status:
        """Where the run is."""

    def ask_stop(self, how: StopHow, *, who: str) -> None:
        """Somebody asks the run to end."""

    def log_of(self, rank: int) -> tuple[AgentPlace, str] | None:
        """The agent and the path of a rank's log; None for a rank that there is not."""


class Reception:
    """Receives what arrives on the controller's port."""

    def __init__(self, *, roster: Roster, desk: Desk) -> None:
        self._roster = roster
        self._desk = desk
        self._visitors: dict[Link, str] = {}
        self._tickets = count(1)
        self._waiting: dict[int, tuple[Link, AskLog]] = {}

    @property
    def visitors(self) -> Mapping[Link, str]:
        """Who visits now."""
        return self._visitors

    def opened(self, link: Link) -> None:
        """Somebody who knows the secret connected; the first record will say who."""
        self._roster.opened(link)

    def received(self, link: Link, record: ToListener) -> None:
        """Answer a visitor, or let the roster hear its agent."""
        match record:
            case Visit():
                self._visitors[link] = record.who
                link.send(self._desk.status())
            case AskStop() if link in self._visitors:
                self._desk.ask_stop(record.how, who=self._visitors[link])
                link.send(self._desk.status())
            case AskLog() if link in self._visitors:
                self._read(link, record)
            case AskStop() | AskLog():
                link.close(f"{record.KIND} before visit")
            case LogPiece() if self._roster.is_agent(link):
                self._pass_on(record)
            case _ if link in self._visitors:
                link.close(f"{record.KIND} of a visitor")
            case _:
                self._roster.received(link, record)

    def skipped(self, link: Link, reason: str) -> None:
        """Note a record of a newer program."""
        self._roster.skipped(link, reason)

    def refused(self, reason: str) -> None:
        """Write down a connection that came to nothing."""
        self._roster.refused(reason)

    def lost(self, link: Link, reason: str) -> None:
        """A visitor has gone, or an agent is lost."""
        if self._visitors.pop(link, None) is None:
            self._roster.lost(link, reason)
            return
        self._waiting = {n: asked for n, asked in self._waiting.items() if asked[0] is not link}

    def _read(self, link: Link, asked: AskLog) -> None:
        """Have a log read by the agent of its host."""
        found = self._desk.log_of(asked.rank)
        if found is None:
            link.send(_without(asked, path="", problem=f"there is no rank {asked.rank}"))
            return
        place, path = found
        if not self._roster.is_here(place.agent_id) or len(self._waiting) >= _MOST_TICKETS:
            problem = f"{place.spoken} is not here"
            link.send(_without(asked, path=path, problem=problem))
            return
        ticket = next(self._tickets)
        self._waiting[ticket] = (link, asked)
        lines = max(0, min(asked.lines, _MOST_LINES))
        order = ReadLog(ticket=ticket, path=path, lines=lines, position=asked.position)
        self._roster.send(place.agent_id, order)

    def _pass_on(self, piece: LogPiece) -> None:
        link, asked = self._waiting.pop(piece.ticket, (None, None))
        if link is None or asked is None:  # the visitor did not wait
            return
        link.send(
            LogPiece(
                ticket=asked.ticket,
                path=piece.path,
                lines=piece.lines,
                position=piece.position,
                problem=piece.problem,
            )
        )


def _without(asked: AskLog, *, path: str, problem: str) -> LogPiece:
    return LogPiece(ticket=asked.ticket, path=path, lines=(), problem=problem)
