"""The progress mark, written by one process and read by another at any time."""

import mmap
import struct
import time
import zlib

import pytest

from launch.marks import MARK_FILE_BYTES, Mark, MarkWriter, read_mark


@pytest.fixture
def mapped(tmp_path):
    path = tmp_path / "mark"
    writer = MarkWriter(path)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
        yield writer, view
    writer.close()


def test_the_latest_mark_is_read(mapped) -> None:
    writer, view = mapped
    before_ns = time.monotonic_ns()

    writer.mark("forward 0", step=7)
    writer.mark("all_reduce tp", step=8)

    mark = read_mark(view)
    assert mark is not None
    assert (mark.seq, mark.step, mark.label) == (2, 8, "all_reduce tp")
    assert before_ns <= mark.monotonic_ns <= time.monotonic_ns()


def test_a_new_file_has_no_mark(mapped) -> None:
    assert read_mark(mapped[1]) is None


def test_a_missing_file_has_no_mark(tmp_path) -> None:
    assert read_mark(tmp_path / "absent") is None


def test_a_file_is_read_by_its_path_too(tmp_path) -> None:
    with MarkWriter(tmp_path / "mark") as writer:
        writer.mark("step", step=1)

    assert read_mark(tmp_path / "mark").label == "step"


def test_the_layout_is_that_of_the_page(tmp_path) -> None:
    with MarkWriter(tmp_path / "mark") as writer:
        writer.mark("forward 3", step=5)
    data = (tmp_path / "mark").read_bytes()

    assert len(data) == MARK_FILE_BYTES == 256
    assert struct.unpack_from("<QQQ", data) == (2, 1, 5)
    assert data[32:128].rstrip(b"\0") == b"forward 3"


def test_a_mark_that_is_being_written_is_not_read(tmp_path) -> None:
    path = tmp_path / "mark"
    with MarkWriter(path) as writer:
        writer.mark("forward 3", step=5)
    torn = struct.pack("<Q", 3) + path.read_bytes()[8:]
    path.write_bytes(torn)

    assert read_mark(path) is None


def test_a_long_label_is_cut_within_its_bytes(mapped) -> None:
    writer, view = mapped

    writer.mark("ü" * 200, step=1)

    assert len(read_mark(view).label.encode()) == 96
    assert view[128:] == bytes(MARK_FILE_BYTES - 128)


def test_a_later_short_label_does_not_show_the_end_of_a_longer_one(mapped) -> None:
    writer, view = mapped

    writer.mark("a long label", step=1)
    writer.mark("short", step=1)

    assert isinstance(read_mark(view), Mark)
    assert read_mark(view).label == "short"


def test_collectives_are_counted_group_by_group(mapped) -> None:
    writer, view = mapped

    writer.arrive("all_reduce", "tp 0,1", step=3)
    writer.arrive("isend", "pp 0>2", step=3)
    writer.arrive("all_gather", "tp 0,1", step=3)

    mark = read_mark(view)
    assert (mark.seq, mark.label) == (3, "all_gather tp 0,1 #2")
    assert mark.groups == (zlib.crc32(b"tp 0,1"), 2, zlib.crc32(b"pp 0>2"), 1)


def test_groups_past_the_sixteenth_are_in_labels_alone(mapped) -> None:
    writer, view = mapped

    for number in range(20):
        writer.arrive("barrier", f"g {number}", step=1)

    mark = read_mark(view)
    assert mark.label == "barrier g 19 #1"
    assert len(mark.groups) == 2 * 16
