"""Starting one rank: its pipes, its marks, its log, its processors, its environment."""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from launch.agent.binding import (
    CPUSET,
    BindingError,
    Machine,
    processors,
    read_machine,
    spoken_cpus,
    visible_gpus,
)
from launch.agent.environment import VISIBLE_GPUS, RankDoors, rank_environment, strays
from launch.agent.fork_server import ForkServer, NotForkedError
from launch.agent.rank import MarkFile, RankLineReader, RunningRank
from launch.agent.rank_log import LogRules, RankLog
from launch.clock import Clock
from launch.fork_lines import ForkRank
from launch.transport.processes import ProcessOrder, StartError, start_dependent
from launch.wire import RankSlot, StartRanks


@dataclass(frozen=True, slots=True, kw_only=True)
class RankStarter:
    """Starts the ranks of one order on this host."""

    order: StartRanks
    marker: str
    clock: Clock
    server: ForkServer
    machine: Machine
    shares: tuple[CPUSET | None, ...]  # the processors of each local rank

    @classmethod
    def of(
        cls, order: StartRanks, *, marker: str, clock: Clock, server: ForkServer
    ) -> "RankStarter":
        """Look at the host and make room for the logs.

        Raises:
            StartError: the host cannot bind ranks as asked, or the log folder cannot be made.
        """
        machine = read_machine()
        try:
            shares = processors(machine, order.binding, local_world_size=order.local_world_size)
            Path(order.log_dir).mkdir(parents=True, exist_ok=True)
        except BindingError as error:
            raise StartError(program=order.argv[0], why=error.reason) from None
        except OSError as error:
            why = f"{order.log_dir}: {error.strerror}"
            raise StartError(program=order.argv[0], why=why) from None
        return cls(
            order=order,
            marker=marker,
            clock=clock,
            server=server,
            machine=machine,
            shares=shares,
        )

    def start(self, slot: RankSlot) -> RunningRank:
        """Start a rank; a StartError says why it cannot be, and leaves nothing behind."""
        with ExitStack() as undo, ExitStack() as given_away:
            marks = MarkFile(slot.rank)
            undo.callback(marks.close)
            log = self._log(slot)
            undo.callback(log.close)
            lines, speaks = _pipe()
            undo.callback(os.close, lines)
            given_away.callback(os.close, speaks)  # so that the pipe ends when the rank does
            output, prints = _pipe()
            undo.callback(os.close, output)
            given_away.callback(os.close, prints)
            order = ProcessOrder(
                argv=self.order.argv,
                env=self._env(slot, speaks, marks),
                log=log.path,
                output=prints,
                processors=self.shares[slot.local_rank],
                inherit=(speaks, marks.descriptor),
            )
            begun = self._begin(order, (prints, speaks, marks.descriptor))
            undo.pop_all()
        return RunningRank(
            rank=slot.rank,
            pid=begun.pid,
            fork_s=begun.fork_s,
            cold=begun.cold,
            lines=lines,
            reader=RankLineReader(log.note),
            output=output,
            marks=marks,
            log=log,
        )

    def bound(self, slot: RankSlot) -> str | None:
        """Where a rank may run, for the agent's log; None when nothing was chosen."""
        share = self.shares[slot.local_rank]
        return None if share is None else f"rank {slot.rank} on processors {spoken_cpus(share)}"

    def _begin(self, order: ProcessOrder, doors: Sequence[int]) -> "_Begun":
        """Fork the rank from the warm server where there is one; else start it cold."""
        if not self.server.is_wanted:
            return _Begun(pid=start_dependent(order))
        try:
            begun_s = self.clock.monotonic_s()
            pid = self._fork(order, doors)
            return _Begun(pid=pid, fork_s=round(self.clock.monotonic_s() - begun_s, 6))
        except NotForkedError as error:
            return _Begun(pid=start_dependent(order), cold=error.reason)

    def _fork(self, order: ProcessOrder, doors: Sequence[int]) -> int:
        differ = strays(order.env, self.server.env)
        if differ:
            raise NotForkedError(reason=f"{', '.join(differ)} differ from the fork server's")
        share = order.processors
        asked = ForkRank(
            argv=tuple(order.argv),
            env=order.env,
            processors=None if share is None else tuple(sorted(share)),
        )
        return self.server.fork(asked, doors)

    def _log(self, slot: RankSlot) -> RankLog:
        path = Path(self.order.log_dir) / f"rank-{slot.rank}.log"
        rules = LogRules(limit_bytes=self.order.log_limit_bytes, keep=self.order.log_keep)
        try:
            return RankLog(path, rules=rules, clock=self.clock)
        except OSError as error:
            why = f"{path}: {error.strerror}"
            raise StartError(program=self.order.argv[0], why=why) from None

    def _env(self, slot: RankSlot, speaks: int, marks: MarkFile) -> dict[str, str]:
        gpus = visible_gpus(
            self.machine, count=self.order.local_world_size, given=os.environ.get(VISIBLE_GPUS)
        )
        doors = RankDoors(
            line_descriptor=speaks, mark_file=marks.path, marker=self.marker, gpus=gpus
        )
        return rank_environment(self.order, slot, doors=doors, inherited=os.environ)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Begun:
    """A new process, and how it began; see `RunningRank`."""

    pid: int
    fork_s: float | None = None
    cold: str | None = None


def _pipe() -> tuple[int, int]:
    """A pipe's reading end, which never blocks, and its writing end."""
    ours, theirs = os.pipe()
    os.set_blocking(ours, False)
    return ours, theirs
