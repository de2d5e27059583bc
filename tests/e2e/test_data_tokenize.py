"""`llmorch data tokenize` in several processes: killed, out of disk, and gone on with."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch.workers.data.chunks import CHUNK_BYTES

LLMORCH = Path(sys.executable).parent / "llmorch"
DEADLINE_S = 60.0
NUM_CHUNKS = 4


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """Text of four chunks, as JSON lines."""
    path = tmp_path_factory.mktemp("text") / "a.jsonl"
    line = json.dumps({"text": "abcdefghij" * 1000}) + "\n"
    path.write_text(line * (NUM_CHUNKS * CHUNK_BYTES // len(line)))
    return path


def command(source: Path, prefix: Path) -> list[str]:
    words = ("--tokenizer", "bytes", "--processes", 2, "--json")
    return [*map(str, (LLMORCH, "data", "tokenize", source, "--to", prefix, *words))]


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory) -> Path:
    """The corpus as nothing disturbs it."""
    prefix = tmp_path_factory.mktemp("whole") / "c"
    subprocess.run(command(source, prefix), check=True, capture_output=True)
    return prefix


def assert_same(prefix: Path, whole: Path) -> None:
    for suffix in (".bin", ".idx"):
        assert Path(f"{prefix}{suffix}").read_bytes() == Path(f"{whole}{suffix}").read_bytes()


def wait_until(is_it) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not is_it():
        assert time.monotonic() < deadline, "it did not come to that"


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_killed_build_goes_on_and_gives_the_same_bytes(source, whole, tmp_path):
    prefix = tmp_path / "c"
    progress = tmp_path / "c.building" / "progress.jsonl"
    with subprocess.Popen(command(source, prefix), stdout=subprocess.PIPE) as process:
        wait_until(lambda: progress.exists() and progress.read_bytes().count(b"\n") >= 2)
        os.kill(process.pid, signal.SIGSTOP)  # so that its children are still its own
        helpers = children(process.pid)
        os.kill(process.pid, signal.SIGKILL)

    names = sorted(path.name for path in tmp_path.iterdir())
    wait_until(lambda: not any(map(is_running, helpers)))
    ended = subprocess.run(command(source, prefix), check=True, capture_output=True)

    assert helpers
    assert names == ["c.building"]
    assert json.loads(ended.stdout)["resumed_parts"] >= 2
    assert_same(prefix, whole)
    assert not (tmp_path / "c.building").exists()


def test_a_killed_helper_ends_the_build_and_keeps_what_is_done(source, tmp_path):
    prefix = tmp_path / "c"
    progress = tmp_path / "c.building" / "progress.jsonl"
    with subprocess.Popen(
        command(source, prefix), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_until(lambda: progress.exists() and progress.read_bytes().count(b"\n") >= 1)
        os.kill(process.pid, signal.SIGSTOP)
        os.kill(children(process.pid)[-1], signal.SIGKILL)
        os.kill(process.pid, signal.SIGCONT)
        _, err = process.communicate(timeout=DEADLINE_S)

    assert process.returncode == 6, err
    assert "a tokenising process ended by signal 9" in err
    assert progress.read_bytes().count(b"\n") >= 1
    assert not Path(f"{prefix}.bin").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_disk_that_fills_up_costs_nothing_that_was_done(source, whole, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    again = shlex.join(command(source, disk / "c"))
    script = f"""
        mount -t tmpfs -o size=21m none {disk}
        {again} ; echo "code $?" ; ls {disk}
        mount -o remount,size=200m {disk}
        {again} && cp {disk}/c.bin {disk}/c.idx {tmp_path}
    """

    ended = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, check=True
    )

    code, names, *answer = ended.stdout.split("\n", 2)
    assert (code, names) == ("code 8", "c.building")
    assert "No space left on device" in ended.stderr
    assert "the same command goes on with it" in ended.stderr
    assert json.loads(answer[0])["resumed_parts"] == 2
    assert_same(tmp_path / "c", whole)


def test_two_builds_of_a_corpus_do_not_meet(source, tmp_path):
    prefix = tmp_path / "c"
    with subprocess.Popen(command(source, prefix), stdout=subprocess.DEVNULL) as first:
        wait_until((tmp_path / "c.building" / "progress.jsonl").exists)
        os.kill(first.pid, signal.SIGSTOP)
        second = subprocess.run(
            command(source, prefix), capture_output=True, text=True, check=False
        )
        first.kill()

    assert second.returncode == 2
    assert "another process builds this corpus" in second.stderr
