"""The ranks of one host: started, listened to, stopped and reaped.

No rank outlives what owns it: a rank dies with its agent, its helpers die with the rank, and what
escapes both (a process in a session of its own) becomes the agent's child and is killed there.
"""

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from launch.agent.environment import RankDoors, rank_environment
from launch.agent.rank import MarkFile, RankLineReader, RunningRank, log_tail
from launch.transport.processes import (
    ExitStatus,
    ProcessOrder,
    StartError,
    kill_adopted,
    kill_and_reap,
    kill_group,
    signal_process,
    start_dependent,
)
from launch.transport.reactor import Reactor, read_available
from launch.wire import (
    Exited,
    InstructionFailed,
    RankBeat,
    RankLine,
    RankSlot,
    Started,
    StartRanks,
    StopHow,
    StopRanks,
    ToController,
)

_SWEEP_INTERVAL_S = 0.1


class Ranks:
    """The rank processes of at most one generation."""

    def __init__(
        self, *, reactor: Reactor, marker: str, report: Callable[[ToController], None]
    ) -> None:
        self.generation = 0
        self._reactor = reactor
        self._marker = marker
        self._report = report
        self._running: dict[int, RunningRank] = {}

    @property
    def running(self) -> tuple[int, ...]:
        """The numbers of the ranks whose process exists."""
        return tuple(sorted(self._running))

    @property
    def _pids(self) -> frozenset[int]:
        return frozenset(rank.pid for rank in self._running.values())

    def start(self, order: StartRanks) -> None:
        """Start a generation's ranks: all of them, or none and say why."""
        if self._running or order.generation <= self.generation:
            self._fail(order, f"generation {self.generation} was here already")
            return
        self.generation = order.generation
        try:
            for slot in order.ranks:
                self._running[slot.rank] = self._start_rank(order, slot)
        except StartError as error:
            self._undo_start()
            self._fail(order, error.reason)
            return
        for rank in self._running.values():
            self._listen(rank)
            self._report(Started(generation=order.generation, rank=rank.rank, pid=rank.pid))

    def stop(self, order: StopRanks) -> None:
        """Stop the ranks of a generation; one that never ran here, or is gone, needs nothing."""
        if order.generation != self.generation:
            return
        if order.how is StopHow.KILL:
            self.kill()
            return
        for rank in self._running.values():
            signal_process(rank.pid, signal.SIGTERM)
        self._reactor.call_after(order.grace_s, lambda: self._kill_generation(order.generation))

    def kill(self) -> None:
        """Kill every rank with its helpers; their exits are reported as they come."""
        for rank in self._running.values():
            kill_group(rank.pid)

    def end(self) -> None:
        """Kill and reap everything below this process, at once; the reactor has stopped."""
        for pid in self._pids:
            kill_and_reap(pid)
        kill_adopted(ours=frozenset())

    def beats(self, *, monotonic_s: float) -> tuple[RankBeat, ...]:
        """Where each rank is, by its latest mark."""
        return tuple(
            rank.marks.beat(rank=rank.rank, pid=rank.pid, monotonic_s=monotonic_s)
            for rank in self._running.values()
        )

    def _start_rank(self, order: StartRanks, slot: RankSlot) -> RunningRank:
        marks = MarkFile(slot.rank)
        ours, theirs = os.pipe()
        try:
            os.set_blocking(ours, False)
            doors = RankDoors(line_descriptor=theirs, mark_file=marks.path, marker=self._marker)
            log = Path(order.log_dir) / f"rank-{slot.rank}.log"
            pid = start_dependent(
                ProcessOrder(
                    argv=order.argv,
                    env=rank_environment(order, slot, doors=doors, inherited=os.environ),
                    log=log,
                    inherit=(theirs, marks.descriptor),
                )
            )
        except StartError:
            os.close(ours)
            marks.close()
            raise
        finally:
            os.close(theirs)  # so that the pipe ends when the rank does
        reader = RankLineReader(lambda problem: _note(log, problem))
        return RunningRank(rank=slot.rank, pid=pid, lines=ours, reader=reader, marks=marks, log=log)

    def _listen(self, rank: RunningRank) -> None:
        self._reactor.on_readable(rank.lines, lambda data: self._pass_on(rank, data))
        self._reactor.on_exit(rank.pid, lambda status: self._on_exit(rank, status))

    def _pass_on(self, rank: RunningRank, data: bytes) -> None:
        for record in rank.reader.feed(data):
            self._report(RankLine(generation=self.generation, rank=rank.rank, record=record))

    def _on_exit(self, rank: RunningRank, status: ExitStatus) -> None:
        self._reactor.forget(rank.lines)
        while data := read_available(rank.lines):  # what it said last comes before its end
            self._pass_on(rank, data)
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
                tail=log_tail(rank.log),
            )
        )

    def _sweep(self) -> None:
        """Kill what dead ranks left us, again until nothing is left: a kill takes its time."""
        if kill_adopted(ours=self._pids):
            self._reactor.call_after(_SWEEP_INTERVAL_S, self._sweep)

    def _undo_start(self) -> None:
        for rank in self._running.values():
            kill_and_reap(rank.pid)
            self._release(rank)
        self._running.clear()

    def _release(self, rank: RunningRank) -> None:
        os.close(rank.lines)
        rank.marks.close()

    def _kill_generation(self, generation: int) -> None:
        if generation == self.generation:
            self.kill()

    def _fail(self, order: StartRanks, reason: str) -> None:
        self._report(InstructionFailed(generation=order.generation, reason=reason))


def _note(log: Path, problem: str) -> None:
    with suppress(OSError), log.open("a") as file:  # a full disk must not end the other ranks
        file.write(f"llmorch: {problem}\n")
