"""A whole run on the real engine: what it learns, reports, refuses, and leaves behind."""

import __future__

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from launch.marks import read_mark

DEADLINE_S = 100
WORKER = "from launch.workers.megatron_core.main import main; main()"


def test_the_loss_falls_on_a_real_corpus(launcher, gpt) -> None:
    config = gpt(
        model={"init_std": 0.06, "position_embedding": "rope", "rotary_base": 10000},
        training={"steps": 60, "global_batch_size": 16, "micro_batch_size": 16},
        checkpoint={"interval_steps": 60},
    )

    losses = launcher.start(config).finish().losses()

    assert losses[1] == pytest.approx(np.log(257), abs=0.7)  # it knows nothing
    assert np.mean([losses[step] for step in range(51, 61)]) < 3.2


def test_bf16_with_recompute_follows_fp32(launcher, gpt, one_rank_gpt) -> None:
    config = gpt(
        parallel={"tp": 2},
        training={"precision": "bf16"},
        recompute={"granularity": "selective", "modules": ["core_attn"]},
    )

    bf16 = launcher.start(config, ranks=2).finish()

    assert bf16.losses() == pytest.approx(one_rank_gpt.losses(), abs=0.02, rel=0)


def test_a_run_reports_its_phases_steps_and_checkpoints_in_order(launcher, gpt) -> None:
    config = gpt(training={"steps": 3}, checkpoint={"interval_steps": 2})

    run = launcher.start(config).finish()

    (rank,) = run.ranks
    told = [line.get("phase") or line.get("step") for line in rank.lines]
    assert told == ["start", "train", 1, 2, "save", 2, "train", 3, "save", 3, "train", 3, "leave"]
    assert [line["kind"] for line in rank.lines][-2:] == ["finished", "phase"]
    assert rank.of_kind("step")[0]["tokens"] == 8 * 32


def test_the_last_mark_names_a_collective_of_the_last_steps_save(launcher, gpt) -> None:
    run = launcher.start(gpt(training={"steps": 3})).finish()

    mark = read_mark(run.ranks[0].mark_file)
    assert mark is not None
    assert mark.step == 3
    assert mark.label.startswith("barrier world 0 #")
    assert mark.seq > 10


def test_a_layout_of_several_ranks_runs_under_torchrun_alone(
    tmp_path, gpt, worker_environment
) -> None:
    config = write(tmp_path, gpt(parallel={"tp": 2}, training={"steps": 2}))
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--no-python")
    worker = (sys.executable, "-c", WORKER, "--config", config, "--staging-dir", tmp_path / "out")

    done = subprocess.run(
        [sys.executable, *torchrun, *worker],
        env=worker_environment(),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert [line.split()[1] for line in done.stdout.splitlines() if line.startswith("step")] == [
        "1/2",
        "2/2",
    ]
    assert (tmp_path / "out" / "step-2" / "metadata.json").exists()


@pytest.mark.parametrize(
    ("ranks", "changes", "said"),
    [
        (
            1,
            {"parallel": {"zero_stage": 2}},
            "2 needs Megatron-FSDP",
        ),
        (1, {"recompute": {"granularity": "selective", "modules": ["all"]}}, "Invalid choices"),
        (2, {"parallel": {"tp": 2}, "model": {"padded_vocab_size": 265}}, "265 is not divisible"),
    ],
    ids=["by-us", "by-megatrons-config", "by-megatrons-model"],
)
def test_a_refusal_is_reported_and_ends_with_its_own_code(
    launcher, gpt, ranks, changes, said
) -> None:
    for rank in launcher.start(gpt(**changes), ranks=ranks).ranks:
        assert rank.wait() == 5
        assert said in rank.of_kind("refused")[0]["reason"]
        assert "Traceback" not in rank.log.read_text()


def test_a_rank_whose_peer_is_killed_ends(launcher, gpt) -> None:
    run = launcher.start(gpt(training={"steps": 100_000}), ranks=2)
    run.ranks[0].wait_for(lambda rank: len(rank.of_kind("step")) >= 2)

    run.ranks[1].process.kill()

    assert run.ranks[0].wait() == 1
    assert run.ranks[0].of_kind("refused") == []


def test_the_corpus_holds_the_bytes_of_its_sources(corpus) -> None:
    tokens = np.fromfile(f"{corpus}.bin", np.uint16)

    first = Path(__future__.__file__).read_bytes()  # the first of them when sorted
    assert bytes(tokens[: len(first)].astype(np.uint8)) == first
    assert tokens[len(first)] == 256


def write(folder: Path, config) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    return path
