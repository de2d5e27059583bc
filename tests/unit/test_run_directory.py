"""The run directory: its names, its rights, its one-time things."""

import json
import stat
from pathlib import Path

import pytest

from launch.run_directory import Reign, RunDirectory, write_whole
from launch.supervisor.manifests import MANIFEST
from orchestrator.errors import StorageError

SECRETIVE = 0o600


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "run")


def test_every_name_of_the_page_is_known(run, root) -> None:
    known = {
        str(path.relative_to(run.path))
        for path in (
            run.run_file,
            run.plan,
            run.bundle,
            run.journal,
            run.controller,
            run.secret,
            run.metrics,
            run.rank_log("<G>", "<R>"),
            run.agent_log("<N>"),
            run.prepare_log("<N>"),
            run.controller_log,
            run.checkpoint("<N>"),
            run.checkpoint("<N>") / MANIFEST,
            run.torn_checkpoint("<N>"),
            run.latest,
            run.staged_checkpoint("<G>", "<N>"),
            run.trash,
            run.summary,
            run._epoch("<N>"),
        )
    }
    page = (root / "docs" / "protocols.md").read_text()
    section = page.split("## 4. Run directory")[1].split("\n## ")[0]
    rows = [row.split("|")[1] for row in section.splitlines() if row.startswith("| `")]
    documented = {name.strip(" `/") for row in rows for name in row.split(",")}

    assert documented == known


def test_a_directory_that_holds_something_is_refused(run) -> None:
    with pytest.raises(StorageError, match="a run is here already"):
        RunDirectory.create(run.path)


def test_an_empty_directory_is_taken(tmp_path) -> None:
    (tmp_path / "run").mkdir()

    assert RunDirectory.create(tmp_path / "run").logs.is_dir()


def test_a_place_that_cannot_be_written_is_a_storage_error(tmp_path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(StorageError, match="Not a directory"):
        RunDirectory.create(tmp_path / "file" / "run")


def test_a_run_is_reopened_by_its_journal(run) -> None:
    run.journal.write_text("")

    assert RunDirectory.reopen(run.path) == run


def test_where_no_run_is_none_is_reopened(tmp_path) -> None:
    with pytest.raises(StorageError, match="there is no run here"):
        RunDirectory.reopen(tmp_path)


def test_paths_are_absolute_whatever_was_given(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert RunDirectory.create(Path("run")).journal == tmp_path / "run" / "journal.jsonl"


def test_each_controller_takes_an_epoch_of_its_own(run) -> None:
    assert [run.take_epoch(), run.take_epoch(), run.take_epoch()] == [1, 2, 3]


def test_a_controller_learns_that_another_took_over(run) -> None:
    epoch = run.take_epoch()
    before = run.is_superseded(epoch)
    run.take_epoch()

    assert (before, run.is_superseded(epoch)) == (False, True)


def test_the_secret_is_long_and_its_owners_alone(run) -> None:
    secret = run.make_secret()

    mode = stat.S_IMODE(run.secret.stat().st_mode)
    assert mode == SECRETIVE
    assert len(bytes.fromhex(secret)) == 32
    assert run.secret.read_text().strip() == secret


def test_a_secret_left_behind_is_replaced_and_never_reused(run) -> None:
    run.secret.write_text("old")
    run.secret.chmod(0o644)

    secret = run.make_secret()

    assert secret != "old"
    assert stat.S_IMODE(run.secret.stat().st_mode) == SECRETIVE


def test_a_secret_is_forgotten_once_and_for_all(run) -> None:
    run.make_secret()

    run.forget_secret()
    run.forget_secret()

    assert not run.secret.exists()


def test_who_controls_is_written_down(run) -> None:
    reign = Reign(epoch=2, host="h1", pid=7, address="10.0.0.1", port=4_000)

    run.announce(reign)

    content = json.loads(run.controller.read_text())
    assert content == {"epoch": 2, "host": "h1", "pid": 7, "address": "10.0.0.1", "port": 4_000}
    assert run.reign() == reign


def test_nobody_controls_what_never_began(run) -> None:
    assert (run.reign(), run.read_secret()) == (None, None)


@pytest.mark.parametrize("text", ["", "[]", '{"epoch": 1}'])
def test_a_strange_note_of_who_controls_is_named(run, text: str) -> None:
    run.controller.write_text(text)

    with pytest.raises(StorageError, match="not what a controller writes"):
        run.reign()


def test_committed_steps_are_numbers_in_order(run) -> None:
    for name in ("step-20", "step-100", "step-9", "staging", "step-x"):
        (run.checkpoints / name).mkdir()

    assert run.committed_steps() == (9, 20, 100)


def test_a_file_is_replaced_whole_and_nothing_is_left_beside_it(tmp_path) -> None:
    write_whole(tmp_path / "latest", "step-1\n")
    write_whole(tmp_path / "latest", "step-2\n")

    assert [path.name for path in tmp_path.iterdir()] == ["latest"]
    assert (tmp_path / "latest").read_text() == "step-2\n"
