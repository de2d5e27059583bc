"""The ranks of one host: started, listened to, stopped and reaped.

No rank outlives what owns it: a rank dies with its agent, its helpers die with the rank, and what
escapes both (a process in a session of its own) becomes the agent's child and is killed there.
"""

import os
import signal
from collections.abc import Callable

from launch.agent.binding import read_machine, visible_gpus
from launch.agent.environment import VISIBLE_GPUS, warm_environment
from launch.agent.fork_server import ForkServer
from launch.agent.rank import RunningRank
from launch.agent.start import RankStarter
from launch.clock import Clock
from launch.transport.processes import (
    ExitStatus,
    StartError,
    kill_adopted,
    kill_and_reap,
    kill_group,
    signal_process,
)
from launch.transport.reactor import Reactor, read_available
from launch.wire import (
    Exited,
    InstructionFailed,
    RankBeat,
    RankLine,
    Started,
    StartRanks,
    StopHow,
    StopRanks,
    ToController,
    Warm,
)

_NO_PROCESS = 0
_SWEEP_INTERVAL_S = 0.1
_MOST_LAST_READS = 64  # what a rank left in a pipe; a helper that escaped may write for ever


class Ranks:
    """The rank processes of at most one generation."""

    def __init__(
        self,
        *,
        reactor: Reactor,
        marker: str,
        slots: int,
        clock: Clock,
        report: Callable[[ToController], None],
        say: Callable[[str], None],
    ) -> None:
        self.generation = 0
        self._reactor = reactor
        self._marker = marker
        self._slots = slots
        self._clock = clock
        self._report = report
        self._say = say
        self._running: dict[int, RunningRank] = {}
        self._waiting: StartRanks | None = None  # for the fork server
        self._server = ForkServer(reactor=reactor, say=say, settled=self._on_settled)

    @property
    def running(self) -> tuple[int, ...]:
        """The numbers of the ranks whose process exists."""
        return tuple(sorted(self._running))

    @property
    def _pids(self) -> frozenset[int]:
        return frozenset(rank.pid for rank in self._running.values()) | self._server.pids

    def warm(self, order: Warm) -> None:
        """Have a fork server ready for the generations to come."""
        inherited = os.environ
        gpus = visible_gpus(read_machine(), count=self._slots, given=inherited.get(VISIBLE_GPUS))
        self._server.keep(
            order, warm_environment(order, marker=self._marker, gpus=gpus, inherited=inherited)
        )

    def start(self, order: StartRanks) -> None:
        """Start a generation's ranks: all of them, or none and say why."""
        if self._running or order.generation <= self.generation:
            self._fail(order, f"generation {self.generation} was here already")
            return
        self.generation = order.generation
        if self._server.is_warming:
            self._waiting = order
        else:
            self._start_now(order)

    def _on_settled(self) -> None:
        order, self._waiting = self._waiting, None
        if order is not None:
            self._start_now(order)

    def _start_now(self, order: StartRanks) -> None:
        try:
            starter = RankStarter.of(
                order, marker=self._marker, clock=self._clock, server=self._server
            )
            for slot in order.ranks:
                self._running[slot.rank] = starter.start(slot)
                if bound := starter.bound(slot):
                    self._say(bound)
        except StartError as error:
            self._undo_start()
            self._fail(order, error.reason)
            return
        for rank in self._running.values():
            self._listen(rank)
            self._report(
                Started(
                    generation=order.generation,
                    rank=rank.rank,
                    pid=rank.pid,
                    fork_s=rank.fork_s,
                    cold=rank.cold,
                )
            )

    def stop(self, order: StopRanks) -> None:
        """Stop the ranks of a generation; one that never ran here, or is gone, needs nothing."""
        if order.generation != self.generation:
            return
        if order.how is StopHow.KILL:
            self.kill()
            return
        self._drop_waiting()  # they have nothing to save
        for rank in self._running.values():
            signal_process(rank.pid, signal.SIGTERM)
        self._reactor.call_after(order.grace_s, lambda: self._kill_generation(order.generation))

    def kill(self) -> None:
        """Kill every rank with its helpers; their exits are reported as they come."""
        self._drop_waiting()
        for rank in self._running.values():
            kill_group(rank.pid)

    def end(self) -> None:
        """Kill and reap everything below this process, at once; the reactor has stopped."""
        for rank in self._running.values():
            kill_and_reap(rank.pid)
            _drain(rank.output, rank.log.feed)
            rank.log.close()
        kill_adopted(ours=frozenset())  # what comes after these is the warden's

    def beats(self, *, monotonic_s: float) -> tuple[RankBeat, ...]:
        """Where each rank is, by its latest mark."""
        return tuple(
            rank.marks.beat(rank=rank.rank, pid=rank.pid, monotonic_s=monotonic_s)
            for rank in self._running.values()
        )

    def _listen(self, rank: RunningRank) -> None:
        self._reactor.on_readable(rank.lines, lambda data: self._pass_on(rank, data))
        self._reactor.on_readable(rank.output, rank.log.feed)
        self._reactor.on_exit(rank.pid, lambda status: self._on_exit(rank, status))

    def _pass_on(self, rank: RunningRank, data: bytes) -> None:
        for record in rank.reader.feed(data):
            self._report(RankLine(generation=self.generation, rank=rank.rank, record=record))

    def _on_exit(self, rank: RunningRank, status: ExitStatus) -> None:
        self._reactor.forget(rank.lines)
        self._reactor.forget(rank.output)
        _drain(rank.lines, lambda data: self._pass_on(rank, data))  # its last words come first
        _drain(rank.output, rank.log.feed)
        del self._running[rank.rank]
        self._release(rank)
        self._sweep()
        self._report(
            Exited(
                generation=self.generation,
                rank=rank.rank,
                pid=rank.pid,
                exit_code=status.exit_code,
                signal=status.signal,
                tail=rank.log.tail,
            )
        )

    def _sweep(self) -> None:
        """Kill what dead ranks left us, again until nothing is left: a kill takes its time."""
        if kill_adopted(ours=self._pids):
            self._reactor.call_after(_SWEEP_INTERVAL_S, self._sweep)

    def _drop_waiting(self) -> None:
        """Ranks that wait for the fork server never begin: they ended before they had a process."""
        order, self._waiting = self._waiting, None
        for slot in () if order is None else order.ranks:
            self._report(
                Exited(
                    generation=self.generation,
                    rank=slot.rank,
                    pid=_NO_PROCESS,
                    exit_code=None,
                    signal=signal.SIGKILL,
                    tail=(),
                )
            )

    def _undo_start(self) -> None:
        for rank in self._running.values():
            kill_and_reap(rank.pid)
            self._release(rank)
        self._running.clear()

    def _release(self, rank: RunningRank) -> None:
        os.close(rank.lines)
        os.close(rank.output)
        rank.marks.close()
        rank.log.close()

    def _kill_generation(self, generation: int) -> None:
        if generation == self.generation:
            self.kill()

    def _fail(self, order: StartRanks, reason: str) -> None:
        self._report(InstructionFailed(generation=order.generation, reason=reason))


def _drain(descriptor: int, take: Callable[[bytes], None]) -> None:
    for _ in range(_MOST_LAST_READS):
        data = read_available(descriptor)
        if not data:
            return
        take(data)
