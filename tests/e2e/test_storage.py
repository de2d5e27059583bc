"""File systems that take nothing: read-only, no permission, full. Each is real."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

LLMORCH = Path(sys.executable).parent / "llmorch"


# Root without the capability to override permissions is held to them like anybody.
WITHOUT_OVERRIDE = (
    ("setpriv", "--inh-caps=-dac_override", "--bounding-set=-dac_override")
    if os.geteuid() == 0
    else ()
)


def run_on(options: str, place: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """Run the command with a tmpfs of these options over a folder, seen by nobody else."""
    place.mkdir()
    command = shlex.join(map(str, (LLMORCH, *words)))
    script = f"mount -t tmpfs -o {options} none {shlex.quote(str(place))} && exec {command}"
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", script],
        capture_output=True,
        text=True,
        cwd=place.parent,
        check=False,
    )


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")


@needs_root
def test_a_plan_on_a_read_only_file_system_is_a_storage_error(tmp_path):
    place = tmp_path / "ro"
    words = ("plan", "--gpus", 8, "--model", "llama-2-13b", "--out", place / "run.yaml")

    ended = run_on("ro", place, *words)

    assert ended.returncode == 8, ended.stderr
    assert "the file system is read-only" in ended.stderr


@needs_root
@pytest.mark.parametrize(
    ("options", "words"),
    [("ro", "Read-only file system"), ("size=16k", "No space left on device")],
    ids=["read-only", "full"],
)
def test_a_launch_where_nothing_can_be_written_is_a_storage_error(tmp_path, root, options, words):
    place = tmp_path / "disk"
    example = root / "parallel_configs" / "tiny-gpt.local-x4.yaml"

    ended = run_on(options, place, "launch", example, "--run-dir", place / "run")

    assert ended.returncode == 8, ended.stderr
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_folder_without_permission_is_a_storage_error(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o555)
    words = ["plan", "--gpus", "8", "--model", "llama-2-13b", "--out", "closed/run.yaml"]

    ended = subprocess.run(
        [*WITHOUT_OVERRIDE, LLMORCH, *words],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )

    assert ended.returncode == 8, ended.stderr
    assert "permission denied" in ended.stderr
