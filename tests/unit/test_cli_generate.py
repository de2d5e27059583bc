"""`llmorch generate`: the folder runs as it stands, says why, and never overwrites in silence."""

import subprocess

import pytest

RUN = """
schema: 1
name: r
model: llama-3.1-8b
cluster: {card: dgx-h100, hosts: 4}
training: {sequence_length: 4096, global_batch_size: 256, steps: 1000}
layout: {tp: 4, pp: 2, sequence_parallel: true, stage_layout: "E|(t|)*32,L", overlap: [dp]}
engine: {name: megatron-lm, version: 0.19.2, checkout: CHECKOUT}
checkpoint: {interval_steps: 100}
"""

TORCHRUN = """#!/bin/sh
printf "%s\\n" "$@" "C=$CUDA_DEVICE_MAX_CONNECTIONS"
"""

INFO = "MAJOR = {}\nMINOR = {}\nPATCH = {}\nPRE_RELEASE = '{}'\n"


@pytest.fixture
def run_file(tmp_path):
    def make(checkout: str = "/nowhere/megatron-lm"):
        path = tmp_path / "run.yaml"
        text = RUN.replace("CHECKOUT", f'"{checkout}"').replace('stage_layout: "E|(t|)*32,L", ', "")
        path.write_text(text)
        return path

    return make


@pytest.fixture
def checkout(tmp_path):
    def make(major, minor, patch, pre=""):
        folder = tmp_path / "megatron lm"
        (folder / "megatron/core").mkdir(parents=True)
        (folder / "megatron/core/package_info.py").write_text(INFO.format(major, minor, patch, pre))
        (folder / "pretrain_gpt.py").write_text("")
        return folder

    return make


def test_generated_script_starts_torchrun_with_the_rendered_words(llmorch, run_file, tmp_path):
    answer = llmorch("generate", run_file(), "--to", tmp_path / "out dir")
    fake = tmp_path / "bin"
    fake.mkdir()
    (fake / "torchrun").write_text(
        '#!/bin/sh\nprintf "%s\\n" "$@" "C=$CUDA_DEVICE_MAX_CONNECTIONS"\n'
    )
    (fake / "torchrun").chmod(0o755)

    done = subprocess.run(
        ["/bin/bash", tmp_path / "out dir/run.sh"],
        env={"PATH": f"{fake}:/usr/bin:/bin", "MASTER_ADDR": "host-0", "NODE_RANK": "3"},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )

    assert answer.code == 0, answer.err
    assert done.returncode == 0, done.stderr
    words = done.stdout.splitlines()
    assert {"--nnodes=4", "--nproc-per-node=8", "--node-rank=3", "--master-addr=host-0"} <= {*words}
    assert words[words.index("--num-layers") + 1] == "32"
    assert "/nowhere/megatron-lm/pretrain_gpt.py" in words
    assert words[-1] == "C=1"


def test_note_says_that_an_absent_checkout_is_unchecked(llmorch, run_file, tmp_path):
    answer = llmorch("generate", run_file(), "--to", tmp_path / "out")

    assert "/nowhere/megatron-lm is not on this machine" in answer.err


def test_checkout_of_another_release_is_refused(llmorch, run_file, checkout, tmp_path):
    answer = llmorch("generate", run_file(checkout(0, 18, 2)), "--to", tmp_path / "out")

    assert answer.code == 5
    assert "is 0.18.2, and the arguments are for 0.19.2" in answer.err
    assert not (tmp_path / "out").exists()


def test_checkout_of_the_release_is_taken(llmorch, run_file, checkout, tmp_path):
    answer = llmorch("generate", run_file(checkout(0, 19, 2)), "--to", tmp_path / "out")

    assert answer.code == 0, answer.err
    assert "not on this machine" not in answer.err


def test_folder_that_is_no_checkout_is_refused(llmorch, run_file, tmp_path):
    answer = llmorch("generate", run_file(tmp_path), "--to", tmp_path / "out")

    assert answer.code == 5
    assert "it is no Megatron-LM" in answer.err


def test_files_with_another_text_are_kept_until_forced(llmorch, run_file, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/run.sh").write_text("mine")

    kept = llmorch("generate", run_file(), "--to", tmp_path / "out")
    text = (tmp_path / "out/run.sh").read_text()
    forced = llmorch("generate", run_file(), "--to", tmp_path / "out", "--force")
    again = llmorch("generate", run_file(), "--to", tmp_path / "out")

    assert (kept.code, text) == (2, "mine")
    assert "holds run.sh with another text" in kept.err
    assert (forced.code, again.code) == (0, 0)


def test_readme_gives_the_reason_of_each_option(llmorch, run_file, tmp_path):
    llmorch("generate", run_file(), "--to", tmp_path / "out")

    readme = (tmp_path / "out/README.md").read_text()

    assert "| `--eval-interval` | has no default and is divided by at start |" in readme
    assert "NCCL_SOCKET_IFNAME" in readme


def toy(root, tmp_path, *, starter: str):
    text = (root / "parallel_configs/tiny-gpt.local-x4.yaml").read_text()
    path = tmp_path / "toy.yaml"
    path.write_text(text.replace("{via: local}", f"{{via: local, starter: {starter}}}"))
    return path


def test_starter_agent_is_a_supervised_launch_of_the_same_run_file(llmorch, root, tmp_path):
    answer = llmorch("generate", toy(root, tmp_path, starter="agent"), "--to", tmp_path / "out")
    fake = tmp_path / "bin"
    fake.mkdir()
    (fake / "llmorch").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (fake / "llmorch").chmod(0o755)

    done = subprocess.run(
        ["/bin/bash", tmp_path / "out/run.sh", "--dry-run"],
        env={"PATH": f"{fake}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )

    assert answer.code == 0, answer.err
    assert done.stdout.split() == ["launch", str(tmp_path / "out/run.yaml"), "--dry-run"]


def test_starter_torchrun_starts_the_same_worker_without_llmorch(llmorch, root, tmp_path):
    run_file = toy(root, tmp_path, starter="torchrun")

    llmorch("generate", run_file, "--to", tmp_path / "out")
    launched = llmorch("launch", run_file, "--dry-run")

    script = (tmp_path / "out/run.sh").read_text()
    assert "exec torchrun --no-python --nnodes=1 --nproc-per-node=4" in script
    assert launched.code == 5
    assert "launch.starter: torchrun" in launched.err


def test_agent_that_could_not_supervise_is_refused(llmorch, run_file, tmp_path):
    path = run_file()
    path.write_text(path.read_text() + "launch: {starter: agent}\n")

    answer = llmorch("generate", path, "--to", tmp_path / "out")

    assert answer.code == 5
    assert "do not report their steps" in answer.err


def test_readme_names_what_the_command_does_not_say(llmorch, run_file, tmp_path):
    path = run_file()
    path.write_text(path.read_text() + "supervise: {max_restarts: 9}\n")

    answer = llmorch("generate", path, "--to", tmp_path / "out")

    readme = (tmp_path / "out/README.md").read_text()
    assert "| `supervise` | of llmorch launch: nothing supervises this command" in readme
    assert "note: supervise: not part of this command" in answer.err


def test_launch_refuses_what_it_cannot_supervise(llmorch, run_file):
    answer = llmorch("launch", run_file(), "--dry-run")

    assert answer.code == 5
    assert "do not report their steps" in answer.err
    assert "llmorch generate" in answer.err
