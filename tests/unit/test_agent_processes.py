"""Rank processes, when the kernel tells of their end before anybody has read what they said."""

import os
from collections.abc import Callable

import pytest

from launch.agent.ranks import Ranks
from launch.rank_lines import FinishedLine
from launch.transport.processes import ExitStatus, kill_group
from launch.wire import (
    Exited,
    InstructionFailed,
    RankLine,
    RankSlot,
    Started,
    StartRanks,
    StopHow,
    StopRanks,
    ToController,
)
from tests.fakes.clock import FakeClock

SPEAKS = r"""printf '{"kind":"finished","step":9}\n' >/proc/self/fd/$LLMORCH_RANK_FD
echo done; exit 4"""


class StillReactor:
    """Watches nothing: the test says when a rank's end is noticed, and that nothing was read."""

    def __init__(self) -> None:
        self.exits: dict[int, Callable[[ExitStatus], None]] = {}
        self.later: list[tuple[float, Callable[[], None]]] = []

    def on_readable(self, descriptor: int, _: Callable[[bytes], None]) -> None:
        os.fstat(descriptor)  # it has to be open, and nothing more

    def on_exit(self, pid: int, callback: Callable[[ExitStatus], None]) -> None:
        self.exits[pid] = callback

    def forget(self, descriptor: int) -> None:
        os.fstat(descriptor)

    def call_after(self, delay_s: float, callback: Callable[[], None]) -> None:
        self.later.append((delay_s, callback))

    def notice_exits(self) -> None:
        for pid, callback in self.exits.items():
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            by_signal = code < 0
            callback(
                ExitStatus(
                    exit_code=None if by_signal else code, signal=-code if by_signal else None
                )
            )


@pytest.fixture
def reactor():
    made = StillReactor()
    yield made
    for pid in made.exits:
        kill_group(pid)


@pytest.fixture
def reports() -> list[ToController]:
    return []


@pytest.fixture
def ranks(reactor, reports) -> Ranks:
    return Ranks(
        reactor=reactor,
        marker="0@/run",
        slots=1,
        clock=FakeClock(),
        report=reports.append,
        say=lambda _: None,
    )


def order_of(script: str, folder, *, generation: int = 1) -> StartRanks:
    return StartRanks(
        generation=generation,
        ranks=(RankSlot(rank=6, local_rank=0),),
        argv=("sh", "-c", script),
        env={},
        world_size=8,
        local_world_size=1,
        group_rank=6,
        master_addr="127.0.0.1",
        master_port=1,
        resume_from=None,
        log_dir=str(folder),
    )


def test_what_a_rank_said_last_is_read_before_its_end_is_reported(
    ranks, reactor, reports, tmp_path
) -> None:
    ranks.start(order_of(SPEAKS, tmp_path))

    reactor.notice_exits()

    started, line, exited = reports
    assert isinstance(started, Started)
    assert line == RankLine(generation=1, rank=6, record=FinishedLine(step=9))
    assert exited == Exited(
        generation=1, rank=6, pid=started.pid, exit_code=4, signal=None, tail=("done",)
    )
    assert ranks.running == ()


def test_a_rank_is_killed_whole_with_what_it_started(ranks, reactor, reports, tmp_path) -> None:
    ranks.start(order_of("sleep 60 & wait", tmp_path))

    ranks.stop(StopRanks(generation=1, how=StopHow.KILL, grace_s=0.0))
    reactor.notice_exits()

    assert reports[-1].signal == 9


def test_a_stop_of_another_generation_is_not_for_us(ranks, reactor, tmp_path) -> None:
    ranks.start(order_of("exec sleep 60", tmp_path))

    ranks.stop(StopRanks(generation=2, how=StopHow.SAVE, grace_s=5.0))

    assert reactor.later == []
    assert ranks.running == (6,)


def test_a_generation_is_not_started_twice(ranks, reactor, reports, tmp_path) -> None:
    ranks.start(order_of("exit 0", tmp_path))
    reactor.notice_exits()

    ranks.start(order_of("exit 0", tmp_path))

    assert reports[-1] == InstructionFailed(generation=1, reason="generation 1 was here already")


def test_the_next_generation_starts_after_the_last_has_ended(
    ranks, reactor, reports, tmp_path
) -> None:
    ranks.start(order_of("exit 0", tmp_path))
    reactor.notice_exits()

    ranks.start(order_of("exec sleep 60", tmp_path, generation=2))

    assert isinstance(reports[-1], Started)
    assert (ranks.generation, ranks.running) == (2, (6,))
