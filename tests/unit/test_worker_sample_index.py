"""The sample index: whole or absent, and never another corpus's."""

import pytest

from launch.workers.sample_index import ensure_index, index_folder


def build(folder):
    (folder / "index.npy").write_text("whole")


def test_a_missing_index_is_built(tmp_path) -> None:
    index = tmp_path / "cache" / "samples-1"

    ensure_index(index, build)

    assert (index / "index.npy").read_text() == "whole"
    assert list(index.parent.iterdir()) == [index]


def test_an_index_that_is_there_is_not_built_again(tmp_path) -> None:
    index = tmp_path / "samples-1"
    index.mkdir()

    ensure_index(index, build)

    assert list(index.iterdir()) == []


def test_a_build_that_fails_leaves_nothing_behind(tmp_path) -> None:
    def build_half(folder):
        build(folder)
        raise OSError

    with pytest.raises(OSError):  # noqa: PT011 - it is the builder's own
        ensure_index(tmp_path / "samples-1", build_half)

    assert list(tmp_path.iterdir()) == []


def test_when_another_host_was_first_its_index_is_used(tmp_path) -> None:
    index = tmp_path / "samples-1"

    def build_second(folder):
        index.mkdir()
        (index / "index.npy").write_text("the other's")
        build(folder)

    ensure_index(index, build_second)

    assert (index / "index.npy").read_text() == "the other's"
    assert list(tmp_path.iterdir()) == [index]


def folder(prefix, *settings):
    return index_folder([str(prefix)], settings or (32, 1), cache_dir="/cache")


def test_a_corpus_prepared_anew_has_an_index_of_its_own(tmp_path) -> None:
    prefix = tmp_path / "corpus"
    (tmp_path / "corpus.idx").write_bytes(b"short")
    before = folder(prefix)
    (tmp_path / "corpus.idx").write_bytes(b"longer than before")

    assert folder(prefix) != before


def test_another_order_or_length_has_an_index_of_its_own(tmp_path) -> None:
    prefix = tmp_path / "corpus"
    (tmp_path / "corpus.idx").write_bytes(b"short")

    assert len({folder(prefix, 32, 1), folder(prefix, 32, 2), folder(prefix, 64, 1)}) == 3


def test_another_blend_has_an_index_of_its_own(tmp_path) -> None:
    one, other = (str(tmp_path / name) for name in ("one", "other"))

    alone = index_folder([one], (32,), cache_dir="/cache")

    assert index_folder([one, other], (32,), cache_dir="/cache") != alone
