"""Rank logs: each line with its time, files of bounded size, and reading them again."""

import os
from pathlib import Path

import pytest

from launch.agent.log_files import read_last, read_on
from launch.agent.rank_log import LogRules, RankLog, rotated
from tests.fakes.clock import FakeClock

STAMP = "1970-01-01T00:16:40.000000Z "  # the fake clock's time


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "rank-3.log"


def log_of(path: Path, *, limit_bytes: int = 1 << 20, keep: int = 2) -> RankLog:
    return RankLog(path, rules=LogRules(limit_bytes=limit_bytes, keep=keep), clock=FakeClock())


def files_of(path: Path) -> list[str]:
    return sorted(file.name for file in path.parent.iterdir())


def test_a_line_has_the_time_at_which_it_was_read(path) -> None:
    clock = FakeClock()
    log = RankLog(path, rules=LogRules(limit_bytes=9_999, keep=0), clock=clock)

    log.feed(b"first\n")
    clock.advance(61.5)
    log.feed(b"second\n")

    assert path.read_text() == f"{STAMP}first\n1970-01-01T00:17:41.500000Z second\n"


def test_a_line_in_pieces_is_one_line(path) -> None:
    log = log_of(path)

    log.feed(b"one ")
    before = path.read_text()
    log.feed(b"line\nand ")
    log.close()

    assert before == ""
    assert path.read_text() == f"{STAMP}one line\n{STAMP}and \n"


def test_a_line_without_an_end_is_broken_instead_of_held_back(path) -> None:
    log = log_of(path)

    log.feed(b"x" * 40_000)

    assert [len(line) - len(STAMP) for line in path.read_text().splitlines()] == [16_384, 16_384]


def test_a_log_is_bounded_in_size_and_number(path) -> None:
    log = log_of(path, limit_bytes=1_000, keep=2)

    for number in range(500):
        log.feed(b"line %d\n" % number)
    log.close()

    assert files_of(path) == ["rank-3.log", "rank-3.log.1", "rank-3.log.2"]
    assert all(file.stat().st_size <= 1_000 for file in path.parent.iterdir())
    kept = [rotated(path, number).read_text() for number in (2, 1, 0)]
    numbers = [int(line.rsplit(" ", 1)[1]) for line in "".join(kept).splitlines()]
    assert numbers == list(range(numbers[0], 500))


def test_one_flood_is_bounded_as_well(path) -> None:
    log = log_of(path, limit_bytes=1_000, keep=1)

    log.feed(b"".join(b"line %d\n" % number for number in range(500)))
    log.close()

    assert files_of(path) == ["rank-3.log", "rank-3.log.1"]
    assert all(file.stat().st_size <= 1_000 for file in path.parent.iterdir())
    assert path.read_text().endswith("line 499\n")


def test_without_older_files_only_the_newest_lines_stay(path) -> None:
    log = log_of(path, limit_bytes=100, keep=0)

    for number in range(50):
        log.feed(b"line %d\n" % number)

    assert files_of(path) == ["rank-3.log"]
    assert path.read_text().endswith("line 49\n")


def test_a_disk_that_takes_nothing_costs_lines_and_says_how_many(path, monkeypatch) -> None:
    log = log_of(path)
    real = os.write

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    log.feed(b"lost\nlost too\n")
    monkeypatch.setattr(os, "write", real)
    log.feed(b"kept\n")

    expected = ["llmorch: 2 lines could not be written here", "kept"]
    assert path.read_text() == "".join(f"{STAMP}{line}\n" for line in expected)
    assert log.tail[:2] == ("lost", "lost too")


def test_the_tail_is_the_last_lines_however_long_the_log(path) -> None:
    log = log_of(path, limit_bytes=1_000)

    for number in range(10_000):
        log.feed(b"line %d %s\n" % (number, b"x" * 1_000))
    log.feed(b"no newline at the end")

    assert len(log.tail) == 40
    assert log.tail[-1] == "no newline at the end"
    assert log.tail[-2].startswith("line 9999 x")
    assert len(log.tail[-2]) == 400


def test_strange_bytes_are_shown_as_well_as_possible(path) -> None:
    log = log_of(path)

    log.feed(b"caf\xe9\nCUDA error\n")

    assert log.tail == ("caf\ufffd", "CUDA error")


def test_the_last_lines_come_from_older_files_too(path) -> None:
    log = log_of(path, limit_bytes=200, keep=3)
    for number in range(12):
        log.feed(b"line %d\n" % number)

    read = read_last(path, lines=8)

    assert [line.removeprefix(STAMP) for line in read.lines] == [f"line {n}" for n in range(4, 12)]


def test_no_lines_may_be_asked_for(path) -> None:
    log_of(path).feed(b"one\n")

    assert read_last(path, lines=0).lines == ()


def test_reading_goes_on_where_it_ended_across_rotation(path) -> None:
    log = log_of(path, limit_bytes=200, keep=5)
    log.feed(b"line 0\n")
    read = read_last(path, lines=10)
    for number in range(1, 12):
        log.feed(b"line %d\n" % number)

    later = read_on(path, read.position)
    nothing = read_on(path, later.position)

    assert [line.removeprefix(STAMP) for line in later.lines] == [f"line {n}" for n in range(1, 12)]
    assert nothing.lines == ()


def test_a_piece_is_bounded_and_the_next_one_goes_on(path) -> None:
    log = log_of(path)
    log.feed(b"first\n")
    at = read_last(path, lines=1).position
    log.feed(b"".join(b"line %d\n" % number for number in range(1_000)))

    seen: list[str] = []
    while (piece := read_on(path, at, limit_bytes=2_000)).lines:
        assert sum(map(len, piece.lines)) <= 2_000
        seen += piece.lines
        at = piece.position

    assert [line.removeprefix(STAMP) for line in seen] == [f"line {n}" for n in range(1_000)]


def test_when_rotation_was_faster_than_the_reader_the_oldest_is_next(path) -> None:
    log = log_of(path, limit_bytes=200, keep=1)
    log.feed(b"line 0\n")
    read = read_last(path, lines=1)
    for number in range(1, 40):
        log.feed(b"line %d\n" % number)

    later = [line.removeprefix(STAMP) for line in read_on(path, read.position).lines]

    assert later[-1] == "line 39"
    assert later == [f"line {n}" for n in range(40 - len(later), 40)]


def test_half_a_line_waits_for_its_end(path) -> None:
    path.write_text("whole\nhal")
    read = read_last(path, lines=5)
    path.write_text("whole\nhalf\n")

    assert read.lines == ("whole",)
    assert read_on(path, read.position).lines == ("half",)
