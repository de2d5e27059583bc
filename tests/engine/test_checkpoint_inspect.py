"""`llmorch checkpoint inspect` on what the real engines saved: whole, damaged, hostile."""

import io
import json
import os
import pickle
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.checkpoint_view import read
from orchestrator.errors import StorageError
from orchestrator.records.checkpoint import CheckpointFormat

ROOT = Path(__file__).parents[2]
DEADLINE_S = 280.0
STEP = 4
DS_PARAMETERS = 32 * 16 + 3 * (16 * 16 + 16) + 16 * 32 + 32
COMMAND = "from orchestrator.cli.app import main; main()"


def run_python(*words: str, **own: str) -> str:
    done = subprocess.run(
        [sys.executable, *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **own},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def deepspeed(jobs: list[dict[str, Any]]) -> None:
    run_python(str(Path(__file__).with_name("deepspeed_saves.py")), json.dumps(jobs))


def config(stage: int, *, dp: int, **more: Any) -> dict[str, Any]:
    adam = {"type": "AdamW", "params": {"lr": 1e-2, "torch_adam": True}}
    return {
        "train_batch_size": 4,
        "train_micro_batch_size_per_gpu": 4 // dp,
        "gradient_accumulation_steps": 1,
        "optimizer": adam,
        "zero_optimization": {"stage": stage},
        **more,
    }


@pytest.fixture(scope="module")
def made(warm, gpt, tmp_path_factory) -> Path:
    """Return a folder with a checkpoint of each format, made by the engines on CPUs."""
    folder = tmp_path_factory.mktemp("checkpoints")
    before = f"from tests.engine.megatron_saves import install; install({str(folder)!r})"
    changes = {
        "parallel": {"tp": 2, "pp": 2},
        "training": {"steps": STEP},
        "checkpoint": {"interval_steps": STEP},
    }
    run = warm.run(gpt(**changes), ranks=4, staged=True, before=before)
    shutil.copytree(run.checkpoint(STEP), folder / "ours")
    bf16 = {"bf16": {"enabled": True}, "data_types": {"grad_accum_dtype": "fp32"}}
    pp = {**config(1, dp=1), "train_micro_batch_size_per_gpu": 4}
    cases = {
        "zero-0": (config(0, dp=2), 1),
        "zero-1-bf16": (config(1, dp=2, **bf16), 1),
        "zero-2": (config(2, dp=2), 1),
        "zero-3": (config(3, dp=2), 1),
        "pipeline": (pp, 2),
    }
    deepspeed(
        [
            {"ranks": 2, "pp": stages, "config": words, "folder": str(folder / name)}
            for name, (words, stages) in cases.items()
        ]
    )
    return folder


@pytest.fixture
def copy(made, tmp_path) -> Callable[[str], Path]:
    """Return a copy of a checkpoint, to be damaged."""

    def of(name: str) -> Path:
        shutil.copytree(made / name, tmp_path / name)
        return tmp_path / name

    return of


def test_ours_says_its_step_tokens_layout_and_model(made):
    saved = read(made / "ours")

    assert (saved.format, saved.flaws, saved.step) == (CheckpointFormat.LLMORCH, (), STEP)
    assert saved.tokens == STEP * 8 * 32
    assert saved.degrees == {"tp": 2, "pp": 2, "cp": 1, "ep": 1, "vpp": 1, "dp": 1}
    assert (saved.zero_stage, saved.precision, saved.world_size) == (1, "fp32", 4)
    assert saved.model["hidden_size"] == 64
    assert saved.parameters == gpt_parameters()


def gpt_parameters() -> int:
    h, layers, vocab, positions = 64, 4, 264, 32
    layer = 12 * h * h + 13 * h
    return vocab * h + positions * h + layers * layer + 2 * h


@pytest.mark.parametrize(
    ("name", "form"),
    [("torch_dist", CheckpointFormat.TORCH_DIST), ("legacy", CheckpointFormat.LEGACY)],
)
def test_megatrons_say_what_their_arguments_say(made, name, form):
    saved = read(made / name)

    assert (saved.format, saved.flaws, saved.step) == (form, (), STEP)
    assert saved.folder == str(made / name / f"iter_{STEP:07d}")
    assert saved.tokens == STEP * 8 * 32
    assert {saved.degrees[axis] for axis in ("tp", "pp")} == {2}
    assert (saved.zero_stage, saved.precision) == (1, "fp32")
    assert saved.reshards_optimizer is False
    assert saved.parameters is not None
    assert saved.parameters >= gpt_parameters()  # legacy: what tp and pp ranks hold twice too


@pytest.mark.parametrize(
    ("name", "stage", "precision", "degrees"),
    [
        ("zero-0", 0, "fp32", {"dp": 2}),
        ("zero-1-bf16", 1, "bf16", {"dp": 2}),
        ("zero-2", 2, "fp32", {"dp": 2}),
        ("zero-3", 3, "fp32", {"dp": 2}),
        ("pipeline", 1, "fp32", {"dp": 1, "pp": 2}),
    ],
)
def test_deepspeeds_say_their_stage_samples_and_parameters(made, name, stage, precision, degrees):
    saved = read(made / name)

    assert (saved.format, saved.flaws) == (CheckpointFormat.DEEPSPEED, ())
    assert (saved.step, saved.samples) == (1, 4)
    assert (saved.zero_stage, saved.precision, saved.degrees) == (stage, precision, degrees)
    assert saved.parameters == DS_PARAMETERS
    assert saved.written_by == "DeepSpeed 0.19.8"
    assert saved.size_bytes == sum(f.stat().st_size for f in Path(saved.folder).rglob("*"))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


DAMAGE: dict[str, tuple[str, str, Callable[[Path], None], str]] = {
    "shard gone": ("ours", "__1_0.distcp", Path.unlink, "__1_0.distcp is missing"),
    "shard cut": ("ours", "__0_0.distcp", cut, "__0_0.distcp ends at"),
    "metadata gone": ("ours", ".metadata", Path.unlink, ".metadata is missing"),
    "metadata cut": ("torch_dist", ".metadata", cut, ".metadata is cut off"),
    "common gone": ("torch_dist", "common.pt", Path.unlink, "common.pt is missing"),
    "common cut": ("torch_dist", "common.pt", cut, "common.pt is cut off"),
    "rank gone": ("legacy", "mp_rank_01_000", shutil.rmtree, "mp_rank_01_000"),
    "model cut": ("legacy", "mp_rank_00_001/model_optim_rng.pt", cut, "mp_rank_00_001/model_optim"),
    "optimizer gone": (
        *("legacy", "mp_rank_00_000/distrib_optim.pt"),
        *(Path.unlink, "mp_rank_00_000/distrib_optim.pt is missing"),
    ),
    "zero part gone": (
        *("zero-2", "zero_pp_rank_1_mp_rank_00_optim_states.pt"),
        *(Path.unlink, "zero_pp_rank_1_mp_rank_00_optim_states.pt is missing"),
    ),
    "zero part cut": (
        *("zero-1-bf16", "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt"),
        *(cut, "optim_states.pt is cut off"),
    ),
    "weights gone": (
        *("zero-2", "mp_rank_00_model_states.pt"),
        *(Path.unlink, "no file of model states can be read"),
    ),
    "weights' part gone": (
        *("zero-3", "zero_pp_rank_1_mp_rank_00_model_states.pt"),
        *(Path.unlink, "zero_pp_rank_1_mp_rank_00_model_states.pt is missing"),
    ),
    "layer gone": (
        *("pipeline", "layer_02-model_states.pt"),
        *(Path.unlink, "layer_02-model_states.pt is missing"),
    ),
    "stage gone": (
        *("pipeline", "mp_rank_01_model_states.pt"),
        *(Path.unlink, "mp_rank_01_model_states.pt is missing"),
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_checkpoint_is_called_torn_with_the_file(copy, name):
    which, file, damage, said = DAMAGE[name]
    folder = Path(read(copy(which)).folder)

    damage(folder / file)
    saved = read(folder)

    assert not saved.is_complete
    assert any(said in flaw for flaw in saved.flaws), saved.flaws


@pytest.mark.parametrize("file", ["common.pt", ".metadata"])
def test_what_a_pickle_names_is_not_run(copy, tmp_path, file):
    folder = Path(read(copy("torch_dist")).folder)
    proof = tmp_path / "it-ran"
    hostile = pickle.dumps(Hostile(str(proof)))
    if file == "common.pt":
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("common/data.pkl", hostile)
        hostile = packed.getvalue()
    (folder / file).write_bytes(hostile)

    with pytest.raises(StorageError, match=r"names posix.mkdir, which is not on the list"):
        read(folder)
    assert not proof.exists()


class Hostile:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


def test_pointer_to_nothing_and_folders_of_nothing_are_refused(copy, tmp_path):
    folder = copy("zero-2")
    (folder / "latest").write_text("global_step9")

    with pytest.raises(StorageError, match="names 'global_step9'"):
        read(folder)
    (folder / "latest").write_text("../../etc")
    with pytest.raises(StorageError, match="no such folder is beside it"):
        read(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(StorageError, match="no checkpoint of a known format"):
        read(tmp_path / "empty")


RUN = """
schema: 1
name: r
model: tiny-gpt
cluster: {{card: dgx-h100, gpus: 4}}
training: {{sequence_length: 128, global_batch_size: 64, steps: 1000, precision: fp32}}
layout: {{zero_stage: {stage}}}
engine: {{name: deepspeed, script: /opt/train.py, config: {own}}}
"""


def answered(path: Path, run_file: Path) -> dict[str, Any]:
    words = ("checkpoint", "inspect", str(path), "--run", str(run_file), "--json")
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if answer["run"]["can_load"] else 5), done.stderr
    return answer


@pytest.mark.parametrize(
    ("name", "stage"), [("zero-2", 1), pytest.param("zero-3", 3, marks=pytest.mark.slow_engine)]
)
def test_printed_commands_make_it_load_with_another_dp_and_stage(copy, tmp_path, name, stage):
    folder, run_file = copy(name), tmp_path / "run.yaml"
    run_file.write_text(RUN.format(stage=stage, own="{}"))
    before = answered(folder, run_file)

    assert before["run"]["can_load"] is False
    for command in before["run"]["commands"]:
        run_shell(command)
    run_file.write_text(RUN.format(stage=stage, own="{checkpoint: {load_universal: true}}"))
    after = answered(folder, run_file)

    assert after["checkpoint"]["format"] == "deepspeed-universal"
    assert after["run"] == {
        **after["run"],
        "can_load": True,
        "reasons": [],
        "commands": [],
    }
    words = config(stage, dp=1, checkpoint={"load_universal": True})
    loss = tmp_path / "loss"
    job = {"ranks": 1, "pp": 1, "config": words, "load": str(folder), "loss": str(loss)}
    same = {**job, "ranks": 2, "config": config(int(name[-1]), dp=2), "loss": f"{loss}-same"}
    original = {**same, "load": str(tmp_path / "original")}
    shutil.copytree(folder, tmp_path / "original")
    (tmp_path / "original/latest").write_text("global_step1")
    deepspeed([job, original])
    here, there = (json.loads(Path(p).read_text()) for p in (loss, f"{loss}-same"))
    assert here[0] == pytest.approx(there[0], abs=1e-6)
    assert here[1] == there[1] == 2


def run_shell(command: str) -> None:
    words = shlex.split(command)
    if words[0] == "python3":
        run_python(*words[1:], DS_ACCELERATOR="cpu")
        return
    subprocess.run(["/bin/sh", "-c", command], check=True, timeout=20)


@pytest.mark.parametrize(("name", "damage"), [("fp32.pt", Path.unlink), ("exp_avg.pt", cut)])
def test_torn_universal_checkpoint_names_the_parameter(copy, tmp_path, name, damage):
    folder, run_file = copy("zero-2"), tmp_path / "run.yaml"
    run_file.write_text(RUN.format(stage=1, own="{}"))
    for command in answered(folder, run_file)["run"]["commands"]:
        run_shell(command)
    damage(folder / "global_step1_universal/zero/1.weight" / name)
    saved = read(folder)

    assert saved.format is CheckpointFormat.UNIVERSAL
    assert any(f"1.weight/{name}" in flaw for flaw in saved.flaws)


def test_reader_imports_neither_torch_nor_an_engine(made):
    text = (
        "import sys; from pathlib import Path\n"
        "from launch.workers.checkpoints.main import answer\n"
        f"assert 'checkpoint' in answer(Path({str(made / 'ours')!r}))\n"
        "assert not {'torch', 'deepspeed', 'megatron', 'numpy'} & {*sys.modules}\n"
    )
    run_python("-c", text)
