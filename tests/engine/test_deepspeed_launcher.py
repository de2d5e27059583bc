"""DeepSpeed's own launcher reads our hostfile and environment file; no host is reached.

`ssh` and `pdsh` on the path are recorders: what the launcher would run on hosts is the answer.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEADLINE_S = 200.0
RUN = """
schema: 1
name: r
model: llama-3.1-8b
cluster: {card: dgx-h100, hosts: 2}
training: {sequence_length: 4096, global_batch_size: 256, steps: 1000}
layout: {zero_stage: 3, overlap: [dp]}
engine: {name: deepspeed, script: /opt/train.py, arguments: [--data, "/my data"]}
"""
LAUNCHER = (
    "#!/bin/sh\nexec {python} -c 'from deepspeed.launcher.runner import main; main()' \"$@\"\n"
)


@pytest.fixture
def folder(llmorch, tmp_path):
    """Return a generated folder for two hosts, with recorders beside it."""
    (tmp_path / "run.yaml").write_text(RUN)
    (tmp_path / "hosts.csv").write_text("host,address,user\nh1,10.0.0.1,me\nh2,10.0.0.2,me\n")
    words = ("--to", tmp_path / "out", "--hostfile", tmp_path / "hosts.csv")
    answer = llmorch("generate", tmp_path / "run.yaml", *words)
    assert answer.code == 0, answer.err
    fakes = {
        "ssh": "#!/bin/sh\necho 10.0.0.1\n",
        "pdsh": '#!/bin/sh\nprintf "%s\\n" "$@"\n',
        "deepspeed": LAUNCHER.format(python=sys.executable),
    }
    (tmp_path / "bin").mkdir()
    for name, text in fakes.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    return tmp_path


def started(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/bash", folder / "out/deepspeed.sh"],
        env={
            "PATH": f"{folder / 'bin'}:{Path(sys.executable).parent}:/usr/bin:/bin",
            "DS_ACCELERATOR": "cpu",
            "HOME": str(folder),
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        },
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        cwd=folder,
        check=False,
    )


def test_deepspeed_launcher_reads_the_hostfile_and_forwards_every_variable(folder):
    done = started(folder)

    assert done.returncode == 0, done.stderr[-2000:]
    assert "me@10.0.0.1,me@10.0.0.2" in done.stdout
    for line in (folder / "out/engine/deepspeed_env").read_text().splitlines():
        assert f"export {line};" in done.stdout
    assert "/opt/train.py" in done.stdout
    assert f"{folder}/out/engine/deepspeed.json" in done.stdout
    assert "--no_local_rank" in done.stdout


def test_missing_hostfile_ends_the_script_instead_of_training_on_this_host(folder):
    (folder / "out/hostfile").unlink()
    done = started(folder)

    assert done.returncode == 6
    assert "hostfile not found" in done.stderr
