"""A visit to a run's controller: ask it something, from any host that sees the run directory."""

import getpass
import os
import socket
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Self

from launch.run_directory import Reign, RunDirectory
from launch.transport.link import Address, Link, visit
from launch.transport.reactor import Reactor
from launch.wire import AskLog, AskStop, LogPiece, Status, StopHow, ToVisitor, Visit

_Question = AskStop | AskLog | Visit
_LOOPBACK = ("127.", "::1", "localhost")


class NoControllerError(Exception):
    """Nobody answers for the run; `reason` says how that was found out."""

    def __init__(self, *, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class Visitor:
    """Use it as a context; each question waits for its answer, at most `timeout_s`."""

    def __init__(self, directory: RunDirectory, *, timeout_s: float = 5.0) -> None:
        self._directory = directory
        self._timeout_s = timeout_s
        self._reactor = Reactor()
        self._link: Link | None = None
        self._problem: str | None = None
        self._answers: list[ToVisitor] = []
        self._is_enough: Callable[[], bool] = bool

    def __enter__(self) -> Self:
        try:
            self.status = self._knock()
        except BaseException:
            self._reactor.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._reactor.close()

    def look_again(self) -> None:
        """Ask anew where the run is."""
        self.status = self._status_after(Visit(who=_who()))

    def stop(self, how: StopHow) -> Status:
        """Ask the run to end; where it is now."""
        return self._status_after(AskStop(how=how))

    def logs(self, questions: Sequence[AskLog]) -> list[LogPiece]:
        """Ask for logs; the answers, by ticket. Tickets must differ."""
        self._ask(questions, is_enough=lambda: len(self._answers) == len(questions))
        pieces = [answer for answer in self._answers if isinstance(answer, LogPiece)]
        return sorted(pieces, key=lambda piece: piece.ticket)

    def opened(self, link: Link) -> None:
        """Both sides are proven."""
        self._link = link
        link.send(Visit(who=_who()))

    def received(self, link: Link, record: ToVisitor) -> None:  # noqa: ARG002 - there is one link
        """An answer arrived."""
        self._answers.append(record)
        self._go_on()

    def skipped(self, link: Link, reason: str) -> None:  # noqa: ARG002
        """An answer of a newer controller."""
        self._end(reason)

    def lost(self, link: Link, reason: str) -> None:  # noqa: ARG002
        """The controller has ended, or does not want us."""
        self._end(reason)

    def refused(self, reason: str) -> None:
        """Nobody is there, or it is not the run's controller."""
        self._end(reason)

    def _knock(self) -> Status:
        reign, secret = self._directory.reign(), self._directory.read_secret()
        if reign is None or secret is None:
            raise NoControllerError(reason="it has no controller")
        address = _address(reign)
        visit(self._reactor, address=address, secret=secret, owner=self)
        return self._status_after()

    def _status_after(self, *questions: AskStop | Visit) -> Status:
        self._ask(questions, is_enough=lambda: bool(self._answers))
        answer = self._answers[-1]
        if not isinstance(answer, Status):
            raise NoControllerError(reason=f"it answered with {answer.KIND}")
        return answer

    def _ask(self, questions: Iterable[_Question], *, is_enough: Callable[[], bool]) -> None:
        """Send the questions, and wait for what is enough of an answer."""
        self._answers, self._is_enough = [], is_enough
        if self._link is not None:
            for question in questions:
                self._link.send(question)
        timer = self._reactor.call_after(
            self._timeout_s, lambda: self._end(f"no answer within {self._timeout_s:g} s")
        )
        self._go_on()
        self._reactor.run()
        timer.cancel()
        if self._problem is not None:
            raise NoControllerError(reason=self._problem)

    def _go_on(self) -> None:
        if self._is_enough() or self._problem is not None:
            self._reactor.stop()

    def _end(self, reason: str) -> None:
        if not self._is_enough():
            self._problem = reason
        self._link = None
        self._reactor.stop()


def _address(reign: Reign) -> Address:
    here = socket.gethostname()
    if reign.address.startswith(_LOOPBACK) and reign.host != here:
        raise NoControllerError(reason=f"its controller is on {reign.host} and listens only there")
    return Address(host=reign.address, port=reign.port)


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
