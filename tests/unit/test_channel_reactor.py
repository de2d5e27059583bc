"""The event loop that agent and controller hang on: what becomes of bugs, children and pipes."""

import errno
import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from launch.transport.processes import ExitStatus
from launch.transport.reactor import Reactor

LIMIT_S = 20.0


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    made = Reactor()
    made.call_after(LIMIT_S, made.stop)
    yield made
    made.close()


@pytest.mark.parametrize(
    "bug", [ValueError("wrong"), OSError(errno.ENOSPC, "full")], ids=["value", "storage"]
)
def test_a_bug_in_a_callback_ends_the_program_instead_of_vanishing(reactor, bug) -> None:
    def callback() -> None:
        raise bug

    reactor.call_soon(callback)

    with pytest.raises(type(bug), match=str(bug.args[-1])):
        reactor.run()


def test_a_bug_in_the_worker_ends_the_program_too(reactor) -> None:
    reactor.in_worker(lambda: 1 // 0, lambda _: None)

    with pytest.raises(ZeroDivisionError):
        reactor.run()


def test_works_are_done_in_the_order_given(reactor) -> None:
    done: list[int] = []

    def keep(number: int) -> None:
        done.append(number)
        if number == 4:
            reactor.stop()

    for number in range(5):
        reactor.in_worker(lambda n=number: n, keep)
    reactor.run()

    assert done == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("script", "status", "text"),
    [
        ("exit 3", ExitStatus(exit_code=3, signal=None), "exit code 3"),
        ("kill -9 $$", ExitStatus(exit_code=None, signal=9), "signal SIGKILL"),
    ],
    ids=["code", "signal"],
)
def test_the_end_of_a_child_is_told_once_with_its_status(reactor, script, status, text) -> None:
    child = subprocess.Popen(["sh", "-c", script], start_new_session=True)
    child.returncode = 0  # the reactor reaps it
    told: list[ExitStatus] = []

    def ended(how: ExitStatus) -> None:
        told.append(how)
        reactor.stop()

    reactor.on_exit(child.pid, ended)
    reactor.run()

    assert told == [status]
    assert told[0].text == text


def test_other_peoples_children_are_not_reaped(reactor) -> None:
    theirs = subprocess.Popen(["sh", "-c", "exit 7"])
    ours = subprocess.Popen(["sh", "-c", "exit 3"], start_new_session=True)
    ours.returncode = 0

    reactor.on_exit(ours.pid, lambda _: reactor.stop())
    reactor.run()

    assert theirs.wait(timeout=LIMIT_S) == 7


def test_a_pipe_is_read_to_its_end(reactor) -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    chunks: list[bytes] = []

    def got(data: bytes) -> None:
        chunks.append(data)
        if not data:
            reactor.stop()

    os.write(writing, b"one\ntwo\n")
    os.close(writing)
    reactor.on_readable(reading, got)
    reactor.run()
    os.close(reading)

    assert chunks == [b"one\ntwo\n", b""]


def test_a_signal_is_a_call_like_any_other(reactor) -> None:
    told: list[str] = []

    def came() -> None:
        told.append("usr1")
        reactor.stop()

    reactor.on_signal(signal.SIGUSR1, came)
    reactor.call_soon(lambda: os.kill(os.getpid(), signal.SIGUSR1))
    reactor.run()

    assert told == ["usr1"]


def test_a_stop_while_closing_ends_nothing() -> None:
    reactor = Reactor()
    reactor.call_soon(reactor.stop)
    reactor.run()
    reactor.at_close(reactor.stop)

    reactor.close()

    assert reactor.loop.is_closed()
