"""The second pair, Python 3.12 and megatron-core 0.19.2: the same training as on the first.

`make test-py312` makes an environment for it and runs this module there; elsewhere it is
deselected. What is asked is a subset of what the first pair is asked: layouts, resuming, programme.
"""

import importlib.metadata
import sys
from itertools import islice
from typing import Any

import pytest

from orchestrator.records.batch_ramp import ramp_of
from orchestrator.specs.training import TrainingSpec

pytestmark = pytest.mark.py312

FIRST_STEP = 2
LAST_STEP = 12
LAYOUTS = {
    "tp2-sequence-parallel": (2, {"parallel": {"tp": 2, "sequence_parallel": True}}),
    "pp2-vpp2": (2, {"parallel": {"pp": 2, "vpp": 2, "overlap": ["pp"]}}),
    "dp2-distributed-optimizer": (2, {}),
    "tp2-pp2": (4, {"parallel": {"tp": 2, "pp": 2}}),
}


def held_out(run) -> float:
    (line,) = run.ranks[0].of_kind("evaluation")
    return float(line["loss"])


def after_first(run) -> dict[int, float]:
    return {step: loss for step, loss in run.losses().items() if step > FIRST_STEP}


def test_this_is_the_second_pair() -> None:
    assert sys.version_info[:2] == (3, 12)
    assert importlib.metadata.version("megatron-core") == "0.19.2"


@pytest.mark.parametrize(("ranks", "layout"), LAYOUTS.values(), ids=LAYOUTS)
def test_a_layout_trains_as_one_rank(launcher, llama, llama_alone, ranks, layout) -> None:
    start = llama_alone.checkpoint(FIRST_STEP)

    run = launcher.start(llama(**layout), ranks=ranks, resume_from=start).finish()

    assert run.losses() == pytest.approx(after_first(llama_alone), abs=1e-5, rel=0)


@pytest.fixture(scope="module")
def llama_alone(shared_launcher, llama) -> Any:
    return shared_launcher.start(llama()).finish()


def test_a_run_resumed_in_its_layout_repeats_every_bit(launcher, gpt, one_rank_gpt) -> None:
    start = one_rank_gpt.checkpoint(FIRST_STEP)

    run = launcher.start(gpt(), resume_from=start).finish()

    assert run.losses() == after_first(one_rank_gpt)


def test_a_programme_with_blend_ramp_and_evaluation_is_resumed_bitwise(
    launcher, gpt, corpus, tmp_path
) -> None:
    sources = [{"prefix": str(corpus), "weight": 1.0}]
    config = gpt(
        training={
            "steps": 4,
            "batch_ramp": [
                {"first_step": 0, "global_batch_size": 4},
                {"first_step": 1, "global_batch_size": 8},
            ],
            "evaluation": {"interval_steps": 4, "steps": 1},
        },
        data={"sources": sources, "split": "8,2", "cache_dir": str(tmp_path / "cache")},
    )

    whole = launcher.start(config).finish()
    rest = launcher.start(config, resume_from=whole.checkpoint(2)).finish()

    assert rest.losses() == after_first(whole)
    assert [line["tokens"] for line in whole.ranks[0].of_kind("step")] == [128, 256, 256, 256]
    assert held_out(rest) == held_out(whole)


def test_our_ramp_is_that_of_megatrons_calculator() -> None:
    from megatron.core.num_microbatches_calculator import StepBatchsizeNumMicroBatchesCalculator

    spec = TrainingSpec.model_validate(
        {
            "sequence_length": 8,
            "global_batch_size": 32,
            "steps": 50,
            "batch_ramp": [
                {"from_tokens": 0, "global_batch_size": 8},
                {"from_tokens": 517, "global_batch_size": 16},
                {"from_tokens": 2400, "global_batch_size": 32},
            ],
        },
        strict=False,
    )
    theirs = StepBatchsizeNumMicroBatchesCalculator(1, 1, False, 1, "0:8 517:16 2400:32", 8)

    for step in range(50):
        theirs.update(ramp_of(spec).samples_after(step), consistency_check=True)

        assert ramp_of(spec).batch_size_after(step) == theirs.current_global_batch_size


@pytest.mark.parametrize("dp_rank", [0, 1])
def test_our_microbatches_are_those_of_megatrons_sampler(monkeypatch, dp_rank) -> None:
    from megatron.core import parallel_state
    from megatron.training.datasets.data_samplers import MegatronPretrainingSampler

    from launch.workers.megatron_core.data import positions

    monkeypatch.setattr(parallel_state, "get_data_parallel_world_size", lambda: 2)
    theirs = MegatronPretrainingSampler(
        total_samples=1000,
        consumed_samples=24,
        micro_batch_size=3,
        data_parallel_rank=dp_rank,
        data_parallel_size=2,
    )

    ours = positions(24, num_microbatches=4, micro_batch_size=3, dp=2, dp_rank=dp_rank)

    assert [list(one) for one in ours] == list(islice(theirs, 4))
