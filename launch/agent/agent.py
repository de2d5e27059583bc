"""The agent's behaviour: what it does about each record, and about silence.

Theory of operation. The agent dials its controller, says who it is, and obeys instructions of the
highest epoch it has met. Everything the controller sends is a sign of life. When the connection
breaks the agent dials again, with growing pauses, and its ranks train on meanwhile. When it has
heard nothing for a lease, whether the connection looks alive or not, it kills its ranks and ends:
that frees the hardware of a run nobody watches. Correctness never rests on it.
"""

import os
import random
import socket
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import Protocol

from launch import __version__
from launch.agent.log_files import read_last, read_on
from launch.agent.memory import Memory
from launch.agent.options import AgentOptions
from launch.clock import Clock
from launch.transport.link import Link, LinkOwner, Reserved, reserve_port
from launch.transport.reactor import Callback, Timer
from launch.wire import (
    Beat,
    Hello,
    InstructionFailed,
    Leave,
    LogPiece,
    PortReserved,
    RankBeat,
    ReadLog,
    ReservePort,
    StartRanks,
    StopRanks,
    ToAgent,
    ToController,
    Warm,
    Welcome,
)

Instruction = Warm | ReservePort | StartRanks | StopRanks | ReadLog | Leave
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0
_BEAT_INTERVAL_S = 0.5  # until the controller says otherwise
_FIRST_LEASE_S = 60.0  # how long we look for a controller we have never met


class AgentEnd(IntEnum):
    """Why an agent ended, as its exit code."""

    LEFT = 0
    FENCED = 3


class RankHost(Protocol):
    """What the agent needs of its ranks; `Ranks` is the real one."""

    generation: int

    @property
    def running(self) -> tuple[int, ...]:
        """The numbers of the ranks whose process exists."""

    def warm(self, order: Warm) -> None:
        """Have a fork server ready."""

    def start(self, order: StartRanks) -> None:
        """Start ranks, or report why not."""

    def stop(self, order: StopRanks) -> None:
        """Stop ranks."""

    def kill(self) -> None:
        """Kill all ranks."""

    def beats(self, *, monotonic_s: float) -> tuple[RankBeat, ...]:
        """The latest marks."""


class Timers(Protocol):
    """Where later calls are left."""

    def call_after(self, delay_s: float, callback: Callback) -> Timer:
        """Call once, `delay_s` from now."""


class Agent:
    """One host's agent; `end` is called once, when it has nothing left to do."""

    def __init__(
        self,
        *,
        options: AgentOptions,
        clock: Clock,
        timers: Timers,
        dial: Callable[[LinkOwner[ToAgent]], None],
        say: Callable[[str], None],
        end: Callable[[AgentEnd], None],
    ) -> None:
        self._options = options
        self._clock = clock
        self._timers = timers
        self._dial = dial
        self._say = say
        self._end = end
        self._link: Link | None = None
        self._welcome: Welcome | None = None  # of this link
        self._epoch = 0
        self._lease_s = _FIRST_LEASE_S
        self._beat_interval_s = _BEAT_INTERVAL_S
        self._heard_at_s = clock.monotonic_s()
        self._pause_s = _FIRST_PAUSE_S
        self._jitter = random.Random(options.agent_id)  # noqa: S311 - spreads dialling, no secret
        self._reserved: Reserved | None = None
        self._memory = Memory()

    def begin(self, ranks: RankHost) -> None:
        """Look for the controller; everything else follows from what happens."""
        self._ranks = ranks
        self._dial(self)
        self._tick()

    def report(self, record: ToController) -> None:
        """Tell the controller; what it must know is told again to one that takes over."""
        self._memory.keep(record, untold=self._welcome is None)
        if self._welcome is not None and self._link is not None:
            self._link.send(record)

    def opened(self, link: Link) -> None:
        """Both sides are proven: say who we are."""
        self._link, self._welcome = link, None
        self._pause_s = _FIRST_PAUSE_S
        link.send(
            Hello(
                host=socket.gethostname(),
                agent_id=self._options.agent_id,
                pid=os.getpid(),
                slots=self._options.slots,
                version=__version__,
                epoch=self._epoch,
                generation=self._ranks.generation,
                ranks=self._ranks.running,
            )
        )

    def received(self, link: Link, record: ToAgent) -> None:
        """Do what a record says."""
        if isinstance(record, Welcome):
            self._on_welcome(link, record)
        elif self._welcome is None:
            link.close(f"{record.KIND} before welcome")
        else:
            self._heard_at_s = self._clock.monotonic_s()
            self._obey(record)

    def skipped(self, link: Link, reason: str) -> None:  # noqa: ARG002 - there is one link
        """Note a record of a newer controller."""
        self._say(f"skipped: {reason}")

    def lost(self, link: Link, reason: str) -> None:
        """Dial again; the ranks go on until the lease ends."""
        if link is self._link:
            self._link = self._welcome = None
        self.refused(reason)

    def refused(self, reason: str) -> None:
        """Dial again after a pause."""
        self._say(f"no controller: {reason}")
        pause_s = self._pause_s * self._jitter.uniform(0.5, 1.0)
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        self._timers.call_after(pause_s, lambda: self._dial(self))

    def _on_welcome(self, link: Link, welcome: Welcome) -> None:
        if welcome.epoch < self._epoch:
            link.close(f"epoch {welcome.epoch} is over, {self._epoch} reigns")
            return
        is_new = self._welcome is None
        self._welcome = welcome
        self._epoch = welcome.epoch
        self._lease_s = welcome.lease_s
        self._beat_interval_s = welcome.beat_interval_s
        self._heard_at_s = self._clock.monotonic_s()
        if is_new:
            for record in self._memory.told_again():
                link.send(record)

    def _obey(self, instruction: Instruction) -> None:
        match instruction:
            case Warm():
                self._ranks.warm(instruction)
            case ReservePort():
                self._reserve(instruction)
            case StartRanks():
                self._release_port()  # at the last moment: rank 0 listens on it
                self._memory.forget()
                self._ranks.start(instruction)
            case StopRanks():
                self._ranks.stop(instruction)
            case ReadLog():
                self.report(_log_piece(instruction))
            case Leave():
                self._finish(AgentEnd.LEFT)

    def _reserve(self, order: ReservePort) -> None:
        self._release_port()
        try:
            self._reserved = reserve_port(order.port)
        except OSError as error:
            which = "no free port" if order.port is None else f"port {order.port}"
            reason = f"{which} on {socket.gethostname()}: {error.strerror}"
            self.report(InstructionFailed(generation=order.generation, reason=reason))
            return
        self.report(PortReserved(generation=order.generation, port=self._reserved.port))

    def _release_port(self) -> None:
        if self._reserved is not None:
            self._reserved.release()
            self._reserved = None

    def _tick(self) -> None:
        now_s = self._clock.monotonic_s()
        if now_s - self._heard_at_s > self._lease_s:
            self._say(f"no word from the controller for {self._lease_s:g} s: killing the ranks")
            self._finish(AgentEnd.FENCED)
            return
        if self._welcome is not None:
            self.report(Beat(monotonic_s=now_s, ranks=self._ranks.beats(monotonic_s=now_s)))
        self._timers.call_after(min(self._beat_interval_s, self._lease_s / 4), self._tick)

    def _finish(self, end: AgentEnd) -> None:
        self._ranks.kill()
        self._end(end)


def _log_piece(order: ReadLog) -> LogPiece:
    path = Path(order.path)
    try:
        if order.position is None:
            read = read_last(path, lines=order.lines)
        else:
            read = read_on(path, order.position)
    except OSError as error:
        problem = f"{path}: {error.strerror}"
        return LogPiece(ticket=order.ticket, path=order.path, lines=(), problem=problem)
    return LogPiece(ticket=order.ticket, path=order.path, lines=read.lines, position=read.position)
