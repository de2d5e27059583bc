"""The fork server of a host, as its agent keeps it.

Theory of operation. The server is a child that imports the engine while the agent waits for
nothing. Until it has said that it may be forked the agent holds its ranks back; from then on a rank
costs a fork. It is asked for one rank at a time, and answers in milliseconds: the rank's process is
the agent's own child by then. A server that dies is started again, a few times; its ranks do not
notice. One that refuses, or does not answer, is put away, and ranks start cold from there on.
"""

import errno
import os
import select
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from launch.codec import UnknownKindError, WireError
from launch.fork_lines import (
    FROM_FORK_SERVER,
    Forked,
    ForkRank,
    FromForkServer,
    NotForked,
    NotWarm,
    Warmed,
)
from launch.transport.processes import (
    ExitStatus,
    ProcessOrder,
    StartError,
    signal_process,
    start_dependent,
)
from launch.transport.reactor import Reactor
from launch.wire import Warm, decode, encode

_PACKET_BYTES = 1 << 20
_MOST_LIVES = 3
_WARM_LIMIT_S = 300.0
_ANSWER_LIMIT_S = 3.0
_STANDARD_ERROR = 2


class NotForkedError(Exception):
    """The rank must start cold; `reason` says why."""

    def __init__(self, *, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class ForkServer:
    """One server and its lives; `settled` is called when ranks need not wait for it any more."""

    def __init__(
        self, *, reactor: Reactor, say: Callable[[str], None], settled: Callable[[], None]
    ) -> None:
        self.env: Mapping[str, str] = {}
        self._reactor = reactor
        self._say = say
        self._settled = settled
        self._order: Warm | None = None
        self._pid: int | None = None
        self._unreaped: set[int] = set()
        self._socket: socket.socket | None = None
        self._is_warm = False
        self._num_lives = 0
        self._obstacle: str | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether ranks are to be forked here."""
        return self._order is not None

    @property
    def is_warming(self) -> bool:
        """Whether ranks should wait."""
        return self.is_wanted and not self._is_warm and self._obstacle is None

    @property
    def pids(self) -> frozenset[int]:
        """Its processes: at most one that is used, and those that are still to be reaped."""
        return frozenset(self._unreaped)

    def keep(self, order: Warm, env: Mapping[str, str]) -> None:
        """Have a server of this command; one that is here already stays."""
        if (order, env) == (self._order, self.env):
            return
        self._put_away()
        self._order, self.env = order, env
        self._num_lives, self._obstacle = 0, None
        self._begin(order)

    def fork(self, order: ForkRank, descriptors: Sequence[int]) -> int:
        """Fork a rank: the pid of our new child.

        Raises:
            NotForkedError: there is no such process; the rank can start cold.
        """
        if self._socket is None or not self._is_warm:
            raise NotForkedError(reason=self._obstacle or "the fork server is not ready")
        try:
            socket.send_fds(self._socket, [encode(order)], descriptors)
            answer = self._answer(self._socket)
        except (TimeoutError, WireError) as error:
            self._give_up(f"the fork server does not answer: {error}")
            raise NotForkedError(reason=str(self._obstacle)) from None
        except OSError as error:  # its exit, of which we hear later, begins its next life
            raise NotForkedError(reason=f"the fork server is gone ({error.strerror})") from None
        if not isinstance(answer, Forked):
            reason = answer.reason if isinstance(answer, NotForked) else f"it said {answer.KIND}"
            raise NotForkedError(reason=reason)
        return answer.pid

    def _begin(self, order: Warm) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self._num_lives += 1
        try:
            pid = start_dependent(
                ProcessOrder(
                    argv=order.argv,
                    env=self.env,
                    log=Path(os.devnull),
                    output=_STANDARD_ERROR,
                    stdin=theirs.fileno(),
                )
            )
        except StartError as error:
            ours.close()
            self._obstacle = error.reason
            self._say(f"ranks start cold: {error.reason}")
            self._settled()
            return
        finally:
            theirs.close()
        self._pid, self._socket = pid, ours
        self._unreaped.add(pid)
        self._reactor.on_readable(ours.fileno(), self._on_packet)
        self._reactor.on_exit(pid, lambda status: self._on_exit(pid, status))
        self._reactor.call_after(_WARM_LIMIT_S, lambda: self._on_limit(pid))

    def _on_packet(self, packet: bytes) -> None:
        if not packet:
            return  # its end; the exit follows
        try:
            record = decode(packet, FROM_FORK_SERVER)
        except (WireError, UnknownKindError) as error:
            self._give_up(f"the fork server is not understood: {error}")
            return
        if isinstance(record, Warmed):
            self._is_warm = True
            self._say(f"fork server {self._pid} is warm after {record.duration_s:.2f} s")
            self._settled()
        elif isinstance(record, NotWarm):
            self._give_up(record.reason)

    def _on_exit(self, pid: int, status: ExitStatus) -> None:
        self._unreaped.discard(pid)
        if pid != self._pid or self._order is None:
            return
        self._put_away()
        if self._num_lives < _MOST_LIVES:
            self._say(f"the fork server ended with {status.text}: starting it again")
            self._begin(self._order)
        else:
            self._obstacle = f"the fork server ended {_MOST_LIVES} times, last with {status.text}"
            self._say(f"ranks start cold: {self._obstacle}")
        if not self.is_warming:
            self._settled()

    def _on_limit(self, pid: int) -> None:
        if pid == self._pid and not self._is_warm:
            self._give_up(f"the fork server was not warm within {_WARM_LIMIT_S:g} s")

    def _give_up(self, reason: str) -> None:
        self._obstacle = reason
        self._say(f"ranks start cold: {reason}")
        if self._pid is not None:
            signal_process(self._pid, signal.SIGKILL)
        self._put_away()
        self._settled()

    def _put_away(self) -> None:
        """Forget this life; its process is reaped when it has ended."""
        if self._socket is not None:
            self._reactor.forget(self._socket.fileno())
            self._socket.close()
        self._socket, self._is_warm = None, False
        self._pid = None

    def _answer(self, ours: socket.socket) -> FromForkServer:
        if not select.select([ours], [], [], _ANSWER_LIMIT_S)[0]:
            raise TimeoutError(errno.ETIMEDOUT, f"nothing within {_ANSWER_LIMIT_S:g} s")
        packet = ours.recv(_PACKET_BYTES)
        if not packet:
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        return decode(packet, FROM_FORK_SERVER)
