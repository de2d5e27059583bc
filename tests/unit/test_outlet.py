"""A stream that never makes its writer wait, seen from its reader's end."""

import os
from collections.abc import Iterator

import pytest

from orchestrator.cli.outlet import Outlet

SOON_S = 10.0
PIPE_BYTES = 1 << 16


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    for end in (reading, writing):
        try:
            os.close(end)
        except OSError:
            continue


def fill(descriptor: int) -> None:
    os.write(descriptor, b"." * PIPE_BYTES)


def test_what_is_read_is_what_was_written_in_order(pipe):
    outlet = Outlet(pipe[1])

    for number in range(500):
        outlet.write(b"line %d\n" % number)
    outlet.drain(within_s=SOON_S)

    assert os.read(pipe[0], PIPE_BYTES) == b"".join(b"line %d\n" % n for n in range(500))


def test_of_what_nobody_reads_only_the_beginning_is_kept_and_the_rest_is_counted(pipe):
    fill(pipe[1])
    outlet = Outlet(pipe[1], limit_bytes=20)

    taken = [outlet.write(b"line %d\n" % number) for number in range(9)]
    os.read(pipe[0], PIPE_BYTES)
    outlet.drain(within_s=SOON_S)

    said = os.read(pipe[0], PIPE_BYTES)
    assert taken == [7] * 9
    assert said == b"line 0\nline 1\n[left out: 7 lines that nobody read in time]\n"


def test_a_reader_who_comes_back_gets_what_is_new(pipe):
    fill(pipe[1])
    outlet = Outlet(pipe[1], limit_bytes=20)
    for number in range(9):
        outlet.write(b"line %d\n" % number)
    os.read(pipe[0], PIPE_BYTES)
    said = b""
    while b"left out" not in said:
        said += os.read(pipe[0], PIPE_BYTES)

    outlet.write(b"line 9\n")
    outlet.drain(within_s=SOON_S)

    assert os.read(pipe[0], PIPE_BYTES) == b"line 9\n"


def test_a_reader_who_has_gone_is_nobodys_trouble(pipe):
    outlet = Outlet(pipe[1])
    os.close(pipe[0])

    for _ in range(100):
        outlet.write(b"anybody there?\n")
    outlet.drain(within_s=SOON_S)

    assert outlet.write(b"no\n") == 3


def test_a_descriptor_that_does_not_block_loses_nothing(pipe):
    os.set_blocking(pipe[1], False)
    fill(pipe[1])
    outlet = Outlet(pipe[1])

    outlet.write(b"later\n")
    os.read(pipe[0], PIPE_BYTES)
    outlet.drain(within_s=SOON_S)

    assert os.read(pipe[0], PIPE_BYTES) == b"later\n"
