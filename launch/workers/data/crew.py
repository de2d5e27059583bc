"""Processes that tokenise chunks, each at the other end of a pipe of its own.

A shared queue would do, were it not for a process that is killed while it writes into it: the
others would wait for the rest of its message for ever. At the end of its own pipe a dead process is
seen at once, whatever it was doing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Final, Self

from launch.workers.data.chunks import Chunk
from launch.workers.data.encode import BrokenChunk, EncodedChunk, EncodeOrder, serve
from orchestrator.errors import HostError

_AHEAD: Final = 3  # chunks per process that are done before their turn, or out
_END_S: Final = 5.0

Result = EncodedChunk | BrokenChunk


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    process: SpawnProcess
    pipe: Connection


class Crew:
    """A number of processes; use it as a context, so that none is left."""

    def __init__(self, order: EncodeOrder, *, num_processes: int) -> None:
        self._members = [_member(order) for _ in range(num_processes)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for member in self._members:
            member.pipe.close()
            member.process.kill()  # it holds nothing that is worth a goodbye
        for member in self._members:
            member.process.join(_END_S)

    def encode(self, chunks: Iterator[Chunk]) -> Iterator[Result]:
        """Yield the results in the order of the chunks, with a bounded number of them waiting.

        Raises:
            HostError: a process was killed.
        """
        idle = list(self._members)
        busy: dict[Connection, tuple[_Member, int]] = {}
        done: dict[int, Result] = {}
        numbered, turn = enumerate(chunks), 0
        room = _AHEAD * len(self._members)
        while True:
            while idle and len(busy) + len(done) < room and (job := next(numbered, None)):
                number, chunk = job
                member = idle.pop()
                _send(member, chunk)
                busy[member.pipe] = (member, number)
            if not busy and not done:
                return
            if turn not in done:
                for pipe in wait(list(busy)):
                    assert isinstance(pipe, Connection)  # noqa: S101  what we asked about
                    member, number = busy.pop(pipe)
                    done[number] = _received(member)
                    idle.append(member)
                continue
            yield done.pop(turn)
            turn += 1


def _member(order: EncodeOrder) -> _Member:
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs, order), daemon=True)
    process.start()
    theirs.close()  # or its end would never be seen
    return _Member(process=process, pipe=ours)


def _send(member: _Member, chunk: Chunk) -> None:
    try:
        member.pipe.send(chunk)
    except OSError:
        raise _killed(member) from None


def _received(member: _Member) -> Result:
    try:
        found: Result | OSError = member.pipe.recv()
    except (EOFError, OSError):
        raise _killed(member) from None
    if isinstance(found, OSError):
        raise found
    return found


def _killed(member: _Member) -> HostError:
    member.process.join(_END_S)
    code = member.process.exitcode
    how = f"by signal {-code}" if code is not None and code < 0 else f"with exit code {code}"
    return HostError(
        host="here",
        problem=f"a tokenising process ended {how}; the kernel kills when memory is short",
        instead="what is done stays; run the same command again, with fewer --processes",
    )
