"""The run's secret: in one file for its owner, and nowhere else while a real run goes on."""

import signal
from pathlib import Path

from tests.e2e.supervised import ToyRun


def test_the_secret_is_in_no_process_and_no_file_of_a_run(tmp_path) -> None:
    folder, own = tmp_path / "run", tmp_path / "own"
    changes = {"steps": 100_000, "ranks": {"log_folder": str(own)}}
    with ToyRun(folder, "--talk", "--save-every", 20, **changes) as run:
        run.until_step(30)
        secret = (folder / "secret").read_text().strip().encode()
        processes = [entry for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
        shown = [entry / what for entry in processes for what in ("cmdline", "environ", "comm")]
        files = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "secret"]
        leaks = [str(path) for path in (*shown, *files) if secret in content_of(path)]
        looked_at = {path.name for path in files}
        run.process.send_signal(signal.SIGINT)
        run.end()

    assert leaks == []
    assert {"agent-0.log", "rank-0.log", "journal.jsonl", "controller.json"} <= looked_at
    assert not (folder / "secret").exists()


def content_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # a process that has ended, a file that was renamed
        return b""
