"""Entry point of `llmorch-forkserver`: import once, then fork ranks for the agent.

Its standard input is one end of a socket pair, whose other end its agent has (docs/protocols.md,
section 5). It ends when the agent does.
"""

import argparse
import gc
import importlib
import os
import socket
import sys
import time
from collections.abc import Sequence

from launch.fork_lines import (
    TO_FORK_SERVER,
    Forked,
    ForkRank,
    FromForkServer,
    NotForked,
    NotWarm,
    Warmed,
)
from launch.wire import decode, encode
from launch.workers.forkserver.birth import UnbornError, fork_for
from launch.workers.forkserver.program import ForeignProgramError, Program
from launch.workers.forkserver.proof import obstacle
from launch.workers.forkserver.rank import Descriptors, become_rank

_PACKET_BYTES = 1 << 20
_NUM_DESCRIPTORS = 3


def main() -> None:
    """Serve until the agent is gone; in a rank, run the rank's program to its end."""
    agent = os.getppid()
    control = _control()
    _warm(_parse(sys.argv[1:]), control)
    program = _serve(control, agent=agent)
    if program is not None:  # this is a rank
        program.run()


def _parse(words: Sequence[str]) -> list[str]:
    parser = argparse.ArgumentParser(prog="llmorch-forkserver", description=__doc__)
    parser.add_argument(
        "--warm", action="append", default=[], metavar="MODULE[:FUNCTION]", help="import, and call"
    )
    return list(parser.parse_args(words).warm)


def _control() -> socket.socket:
    control = socket.socket(fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return control


def _warm(names: Sequence[str], control: socket.socket) -> None:
    """Import what ranks will need; say whether this process may be forked, or end."""
    begun_s = time.monotonic()
    try:
        for name in names:
            module, _, function = name.partition(":")
            imported = importlib.import_module(module)
            if function:
                getattr(imported, function)()
    except Exception as error:
        _say(control, NotWarm(reason=f"{type(error).__name__}: {error}"))
        raise
    reason = obstacle()
    if reason is not None:
        _say(control, NotWarm(reason=reason))
        sys.exit(f"cannot be forked: {reason}")
    gc.collect()
    gc.freeze()  # a rank's collections then leave the shared pages alone
    _say(control, Warmed(duration_s=time.monotonic() - begun_s))


def _serve(control: socket.socket, *, agent: int) -> Program | None:
    """Answer until the agent is gone: None. In a forked rank: its program."""
    while True:
        packet, descriptors, _, _ = socket.recv_fds(control, _PACKET_BYTES, _NUM_DESCRIPTORS)
        if not packet:
            return None
        given = Descriptors(**dict(zip(("prints", "speaks", "marks"), descriptors, strict=True)))
        answer = _answer(decode(packet, TO_FORK_SERVER), given, agent=agent)
        if isinstance(answer, Program):
            control.close()
            return answer
        given.close()
        _say(control, answer)


def _answer(order: ForkRank, given: Descriptors, *, agent: int) -> Forked | NotForked | Program:
    reason = obstacle()
    if reason is not None:
        return NotForked(reason=reason)
    sys.stdout.flush()  # or a rank would print what was left in it, too
    try:
        program = Program.of(order.argv)
        pid = fork_for(agent)
    except (ForeignProgramError, UnbornError) as error:
        return NotForked(reason=error.reason)
    if pid is not None:
        return Forked(pid=pid)
    become_rank(order, given)
    return program


def _say(control: socket.socket, record: FromForkServer) -> None:
    control.send(encode(record))


if __name__ == "__main__":
    main()
