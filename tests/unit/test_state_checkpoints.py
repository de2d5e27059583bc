"""Checkpoints on storage: committed whole, or not at all."""

import os
import zlib
from pathlib import Path

import pytest

from launch.rank_lines import StagedFile
from launch.request import TORCH_DIST_FILES
from launch.run_directory import RunDirectory
from launch.supervisor.checkpoints import CheckpointStore


@pytest.fixture
def store(tmp_path) -> CheckpointStore:
    directory = RunDirectory.create(tmp_path / "run")
    made = CheckpointStore(directory=directory, required=TORCH_DIST_FILES)
    made.prepare(1)
    return made


def stage(store: CheckpointStore, *, generation: int = 1, step: int = 20) -> None:
    folder = store.directory.staged_checkpoint(generation, step)
    folder.mkdir()
    for name in (*TORCH_DIST_FILES, "__0_0.distcp"):
        (folder / name).write_text(f"{name} of {step}")


def stated(*names: str, step: int = 20) -> dict[str, StagedFile]:
    """What ranks say of files that `stage` wrote."""
    texts = {name: f"{name} of {step}".encode() for name in names}
    return {
        name: StagedFile(name=name, size_bytes=len(text), crc32=zlib.crc32(text))
        for name, text in texts.items()
    }


def test_a_whole_checkpoint_becomes_the_latest(store) -> None:
    stage(store)

    flaw = store.commit(1, 20, {})

    assert flaw is None
    assert store.directory.latest.read_text() == "step-20\n"
    assert (store.directory.checkpoint(20) / "__0_0.distcp").read_text() == "__0_0.distcp of 20"
    assert not store.directory.staged_checkpoint(1, 20).exists()


@pytest.mark.parametrize("name", TORCH_DIST_FILES)
def test_a_missing_file_is_named_and_nothing_is_committed(store, name: str) -> None:
    stage(store)
    (store.directory.staged_checkpoint(1, 20) / name).unlink()

    flaw = store.commit(1, 20, {})

    assert flaw is not None
    assert flaw.reason == f"{name} is missing"
    assert not store.directory.checkpoint(20).exists()
    assert not store.directory.latest.exists()


def test_an_empty_file_is_named(store) -> None:
    stage(store)
    (store.directory.staged_checkpoint(1, 20) / "common.pt").write_text("")

    assert store.commit(1, 20, {}).reason == "common.pt is empty"


def cut_off(path: Path) -> None:
    os.truncate(path, 5)


def change(path: Path) -> None:
    path.write_text(path.read_text().swapcase())


DAMAGES = pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (Path.unlink, "__0_0.distcp is missing"),
        (cut_off, "__0_0.distcp has 5 of 18 bytes"),
        (change, "__0_0.distcp has other bytes than were written"),
    ],
    ids=["missing", "cut off", "changed"],
)


@DAMAGES
def test_a_file_that_is_not_what_its_rank_wrote_is_never_committed(store, damage, reason) -> None:
    stage(store)
    damage(store.directory.staged_checkpoint(1, 20) / "__0_0.distcp")

    flaw = store.commit(1, 20, stated("common.pt", "__0_0.distcp"))

    assert flaw is not None
    assert flaw.reason == reason
    assert not store.directory.latest.exists()


@DAMAGES
def test_a_committed_checkpoint_that_was_torn_later_is_told(store, damage, reason) -> None:
    stage(store)
    store.commit(1, 20, stated("common.pt", "__0_0.distcp"))
    before = store.flaw_of(20)
    damage(store.directory.checkpoint(20) / "__0_0.distcp")

    flaw = store.flaw_of(20)

    assert before is None
    assert flaw is not None
    assert flaw.reason == reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [(None, "manifest.json is missing"), ("{", "manifest.json is not what was written")],
    ids=["missing", "torn"],
)
def test_without_its_manifest_a_checkpoint_is_torn(store, text: str | None, reason: str) -> None:
    stage(store)
    store.commit(1, 20, {})
    manifest = store.directory.checkpoint(20) / "manifest.json"
    manifest.unlink()
    if text is not None:
        manifest.write_text(text)

    assert store.flaw_of(20).reason == reason
    assert store.flaw_of(40).reason.endswith("step-40 is not there")


def test_a_torn_checkpoint_gives_its_name_away_and_latest_goes_back(store) -> None:
    for step in (20, 40):
        stage(store, step=step)
        store.commit(1, step, {})

    for _ in range(2):  # a controller may die between doing it and saying so
        store.put_aside(40, latest=20)

    assert store.directory.latest.read_text() == "step-20\n"
    assert store.directory.committed_steps() == (20,)
    assert (store.directory.torn_checkpoint(40) / "common.pt").exists()


def test_where_no_checkpoint_is_whole_there_is_no_latest(store) -> None:
    stage(store)
    store.commit(1, 20, {})

    store.put_aside(20, latest=None)

    assert not store.directory.latest.exists()
    assert store.directory.committed_steps() == ()


def test_a_checkpoint_that_is_not_there_is_not_committed(store) -> None:
    assert store.commit(1, 20, {}).reason.endswith("generation-1/step-20 is not there")


def test_what_an_older_generation_staged_cannot_be_committed_by_the_next(store) -> None:
    stage(store, generation=1)

    store.prepare(2)

    assert store.commit(2, 20, {}).reason.endswith("generation-2/step-20 is not there")
    assert store.commit(1, 20, {}).reason.endswith("generation-1/step-20 is not there")


def test_what_was_put_aside_is_freed(store) -> None:
    stage(store, generation=1)
    store.prepare(2)

    store.empty_trash()

    assert list(store.directory.trash.iterdir()) == []


def test_a_deleted_checkpoint_leaves_the_others_alone(store) -> None:
    for step in (20, 40):
        stage(store, step=step)
        store.commit(1, step, {})

    store.delete(20)

    assert store.directory.committed_steps() == (40,)
    assert store.directory.latest.read_text() == "step-40\n"
    assert list(store.directory.trash.iterdir()) == []


def test_each_generation_has_its_folders(store) -> None:
    store.prepare(2)

    assert store.directory.generation_staging(2).is_dir()
    assert store.directory.generation_logs(2).is_dir()
    assert not store.directory.generation_staging(1).exists()


def test_storage_that_does_not_work_is_not_taken_for_a_flaw(store) -> None:
    stage(store)
    store.directory.checkpoint(20).mkdir()
    (store.directory.checkpoint(20) / "something").write_text("in the way")

    with pytest.raises(OSError, match="not empty"):
        store.commit(1, 20, {})
