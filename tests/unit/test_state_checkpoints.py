"""Checkpoints on storage: committed whole, or not at all."""

import pytest

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


def test_a_whole_checkpoint_becomes_the_latest(store) -> None:
    stage(store)

    flaw = store.commit(1, 20)

    assert flaw is None
    assert store.directory.latest.read_text() == "step-20\n"
    assert (store.directory.checkpoint(20) / "__0_0.distcp").read_text() == "__0_0.distcp of 20"
    assert not store.directory.staged_checkpoint(1, 20).exists()


@pytest.mark.parametrize("name", TORCH_DIST_FILES)
def test_a_missing_file_is_named_and_nothing_is_committed(store, name: str) -> None:
    stage(store)
    (store.directory.staged_checkpoint(1, 20) / name).unlink()

    flaw = store.commit(1, 20)

    assert flaw is not None
    assert flaw.reason == f"{name} is missing"
    assert not store.directory.checkpoint(20).exists()
    assert not store.directory.latest.exists()


def test_an_empty_file_is_named(store) -> None:
    stage(store)
    (store.directory.staged_checkpoint(1, 20) / "common.pt").write_text("")

    assert store.commit(1, 20).reason == "common.pt is empty"


def test_a_checkpoint_that_is_not_there_is_not_committed(store) -> None:
    assert store.commit(1, 20).reason.endswith("generation-1/step-20 is not there")


def test_what_an_older_generation_staged_cannot_be_committed_by_the_next(store) -> None:
    stage(store, generation=1)

    store.prepare(2)

    assert store.commit(2, 20).reason.endswith("generation-2/step-20 is not there")
    assert store.commit(1, 20).reason.endswith("generation-1/step-20 is not there")


def test_what_was_put_aside_is_freed(store) -> None:
    stage(store, generation=1)
    store.prepare(2)

    store.empty_trash()

    assert list(store.directory.trash.iterdir()) == []


def test_a_deleted_checkpoint_leaves_the_others_alone(store) -> None:
    for step in (20, 40):
        stage(store, step=step)
        store.commit(1, step)

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
        store.commit(1, 20)
