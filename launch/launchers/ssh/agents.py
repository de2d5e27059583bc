"""Agents on hosts, started and kept in sight by ssh.

Theory of operation. Each agent is the remote command of one ssh process here. That process is how
we *see* the agent; losing it says nothing about the agent, which talks to the controller over a
connection of its own. So when ssh ends for its own reasons (255, a signal) a second one looks: is
the agent there, it is in sight again and the run never noticed; is it gone, or does the host not
answer, the agent has ended. `ended` is therefore never said of an agent that we know to be
running. To kill an agent, a second ssh kills everything of it on its host.

An agent on a host that cannot be reached may live on. It fences itself when its lease is over, and
whoever starts it anew kills the old one first. At most `parallel` connections are being made at a
time: a jump host in front of them takes no more (sshd's MaxStartups).
"""

import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from launch.launchers.ssh.command import PROGRAM, order_text, ssh_argv
from launch.launchers.ssh.session import Session, SessionOrder
from launch.remote.program import GONE
from launch.request import HostSlots, SshStart
from launch.supervisor.roster import AgentCall
from launch.transport.processes import ExitStatus, StartError
from launch.transport.reactor import Reactor

_OnEnd = Callable[[ExitStatus, str], None]
_NO_PROGRAM = 127
_PAUSE_S = 1.0
_SPREAD = 16  # hosts that were lost together are not tried again at the same instant
_SSH_FAILED = 255  # ssh's own failures, and a remote command that was ended by a signal


class Sight(StrEnum):
    """What we know of an agent."""

    QUEUED = "queued"
    CONNECTING = "connecting"
    SEEN = "seen"
    LOOKING = "looking"
    KILLING = "killing"
    ENDED = "ended"


@dataclass(slots=True)
class Queue:
    """Connections that wait until others are made."""

    places: int
    waiting: deque[Callable[[], None]] = field(default_factory=deque)

    def enter(self, begin: Callable[[], None]) -> None:
        """Begin now, or when there is a place."""
        self.waiting.append(begin)
        self._let_in()

    def leave(self) -> None:
        """A connection is made, or will not be: there is a place."""
        self.places += 1
        self._let_in()

    def _let_in(self) -> None:
        while self.places and self.waiting:
            self.places -= 1
            self.waiting.popleft()()


class SshAgents:
    """Starts agents on the hosts of a request."""

    def __init__(self, start: SshStart, hosts: tuple[HostSlots, ...]) -> None:
        self._start = start
        self._hosts = hosts
        self._queue = Queue(start.parallel)

    def start(
        self, call: AgentCall, *, reactor: Reactor, ended: Callable[[str], None]
    ) -> "SshAgent":
        """Start an agent on its host; `ended` is called once it is gone."""
        agent = SshAgent(
            call=call,
            start=self._start,
            host=self._hosts[call.place.agent_id],
            queue=self._queue,
            reactor=reactor,
            ended=ended,
        )
        self._queue.enter(agent.begin)
        return agent

    def adopt(
        self, call: AgentCall, *, reactor: Reactor, ended: Callable[[str], None]
    ) -> "SshAgent":
        """Look for an agent that another controller started; `ended` is called once it is gone."""
        agent = SshAgent(
            call=call,
            start=self._start,
            host=self._hosts[call.place.agent_id],
            queue=self._queue,
            reactor=reactor,
            ended=ended,
        )
        self._queue.enter(agent.look)
        return agent


class SshAgent:
    """One life of an agent on another host."""

    def __init__(
        self,
        *,
        call: AgentCall,
        start: SshStart,
        host: HostSlots,
        queue: Queue,
        reactor: Reactor,
        ended: Callable[[str], None],
    ) -> None:
        self._call = call
        self._argv = ssh_argv(start, host)
        self._folder = start.working_folder
        self._queue = queue
        self._reactor = reactor
        self._ended = ended
        self._sight = Sight.QUEUED
        self._session: Session | None = None
        self._holds_place = False

    @property
    def marker(self) -> str:
        """By what the processes of this agent are known on its host."""
        return f"{self._call.place.agent_id}@{self._call.run_directory}"

    def begin(self) -> None:
        """Start it; there is a place for the connection."""
        self._holds_place = True
        if self._sight is not Sight.QUEUED:  # killed while it waited
            self._leave_queue()
            return
        self._sight = Sight.CONNECTING
        self._session = self._run(self._start_text(), self._on_start_end)

    def look(self) -> None:
        """Look for it; there is a place for the connection."""
        self._holds_place = True
        if self._sight is not Sight.QUEUED:
            self._leave_queue()
            return
        self._look()

    def kill(self) -> None:
        """Kill it and its ranks on its host."""
        before, self._sight = self._sight, Sight.KILLING
        match before:
            case Sight.QUEUED:
                self._reactor.call_soon(lambda: self._end("it was not started"))
            case Sight.CONNECTING | Sight.LOOKING | Sight.SEEN:
                if before is Sight.CONNECTING and self._session is not None:
                    self._session.kill()  # before it can start what the next one kills
                self._run(self._text("clear"), self._on_clear_end, outlives=True)
            case Sight.KILLING | Sight.ENDED:
                self._sight = before

    def _on_greeting(self) -> None:
        self._leave_queue()
        if self._sight in {Sight.CONNECTING, Sight.LOOKING}:
            self._sight = Sight.SEEN

    def _on_start_end(self, status: ExitStatus, last_line: str) -> None:
        self._leave_queue()
        match self._sight:
            case Sight.CONNECTING:
                self._end_after_pause(last_line or f"ssh ended with {status.text}")
            case Sight.SEEN if _says_nothing(status):
                self._look()
            case Sight.SEEN:
                self._end(f"it ended with {status.text}")
            case _:
                return  # being killed: the other ssh says when it is gone

    def _look(self) -> None:
        self._sight = Sight.LOOKING
        self._session = self._run(self._text("watch"), self._on_watch_end)

    def _look_after_pause(self) -> None:
        self._sight = Sight.LOOKING
        self._later(Sight.LOOKING, self._look)

    def _end_after_pause(self, reason: str) -> None:
        """Say that it ended, later: whoever tries again at once meets the same trouble."""
        self._later(Sight.CONNECTING, lambda: self._end(reason))

    def _later(self, sight: Sight, callback: Callable[[], None]) -> None:
        """Call after a pause, unless something else happened meanwhile."""
        spread = 1 + self._call.place.agent_id % _SPREAD / _SPREAD
        self._reactor.call_after(
            _PAUSE_S * spread, lambda: callback() if self._sight is sight else None
        )

    def _on_watch_end(self, status: ExitStatus, last_line: str) -> None:
        self._leave_queue()
        match self._sight:
            case Sight.LOOKING | Sight.SEEN if status.exit_code == GONE:
                self._end("it is gone")
            case Sight.LOOKING:
                self._end(f"the host does not answer: {last_line or status.text}")
            case Sight.SEEN:
                self._look_after_pause()
            case _:
                return

    def _on_clear_end(self, status: ExitStatus, last_line: str) -> None:
        if self._session is not None:
            self._session.kill()
        is_clear = status.exit_code == GONE
        self._end("killed" if is_clear else f"out of reach: {last_line or status.text}")

    def _end(self, reason: str) -> None:
        if self._sight is not Sight.ENDED:
            self._sight = Sight.ENDED
            self._ended(reason)

    def _leave_queue(self) -> None:
        if self._holds_place:
            self._holds_place = False
            self._queue.leave()

    def _run(self, text: bytes, on_end: _OnEnd, *, outlives: bool = False) -> Session | None:
        order = SessionOrder(
            argv=self._argv, text=text, greeting=_GREETING, log=self._call.log, outlives=outlives
        )
        try:
            return Session(
                order, reactor=self._reactor, on_greeting=self._on_greeting, on_end=on_end
            )
        except StartError as error:  # no ssh here: as a shell would say it
            reason = error.reason
            none = ExitStatus(exit_code=_NO_PROGRAM, signal=None)
            self._reactor.call_soon(lambda: on_end(none, reason))
            return None

    def _start_text(self) -> bytes:
        place, controller = self._call.place, self._call.controller
        archive = Path(self._call.archive).read_bytes()
        argv = [
            *("--connect", f"{controller.host}:{controller.port}"),
            *("--run-dir", str(self._call.run_directory)),
            *("--agent-id", str(place.agent_id)),
            *("--slots", str(place.slots)),
        ]
        secret = self._call.secret_file.read_text().strip()
        return self._text(
            "start",
            archive,
            folder=self._folder,
            archive_bytes=len(archive),
            argv=argv,
            secret=secret,
        )

    def _text(self, deed: str, payload: bytes = b"", **more: object) -> bytes:
        order = {"do": deed, "marker": self.marker, "greeting": _GREETING, **more}
        return order_text(PROGRAM, order, payload)


_GREETING = f"llmorch: here since {os.getpid()}"


def _says_nothing(status: ExitStatus) -> bool:
    return status.exit_code in {None, _SSH_FAILED}
