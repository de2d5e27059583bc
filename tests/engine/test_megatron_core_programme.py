"""The training programme on the real engine: blend, ramp, schedule, evaluation, curves.

One run of eight steps on two data-parallel ranks is looked at from all sides, beside it what it is
compared with.
"""

import math
from typing import Any

import numpy as np
import pytest

from launch.marks import read_mark
from tests.engine.corpora import write_corpus

STEPS = 8
RESUMED_AT = 5  # after the ramp, between two evaluations
OPTIMIZER = {
    "warmup_steps": 2,
    "decay_steps": STEPS,
    "decay_style": "wsd",
    "wsd_decay_steps": 4,
    "wsd_decay_style": "linear",
    "min_learning_rate": 0.0,
}


@pytest.fixture(scope="module")
def programme(gpt, corpus, tmp_path_factory) -> Any:
    """A configuration that uses everything at once; it takes more than an epoch of one corpus."""
    folder = tmp_path_factory.mktemp("programme")
    digits = write_corpus(folder / "digits", [b"0123456789" * 30] * 20)
    blend = [{"prefix": str(corpus), "weight": 3.0}, {"prefix": str(digits), "weight": 1.0}]

    def make(**changes: dict[str, Any]) -> dict[str, Any]:
        config = gpt(
            training={
                "steps": STEPS,
                "hidden_dropout": 0.1,
                "global_batch_size": 8,
                "batch_ramp": [
                    {"first_step": 0, "global_batch_size": 4},
                    {"first_step": 3, "global_batch_size": 8},
                ],
                "evaluation": {"interval_steps": 4, "steps": 2},
            },
            data={"sources": blend, "split": "8,2", "cache_dir": str(folder / "cache")},
            checkpoint={"interval_steps": RESUMED_AT},
            logging={"interval_steps": 1, "tensorboard_dir": str(folder / "curves")},
        )
        config["training"]["optimizer"].update(OPTIMIZER)
        for section, values in changes.items():
            config[section].update(values)
        return config

    make.folder = folder
    return make


@pytest.fixture(scope="module")
def whole(shared_launcher, programme) -> Any:
    return shared_launcher.start(programme(), ranks=2).finish()


@pytest.fixture(scope="module")
def resumed(shared_launcher, programme, whole) -> Any:
    """The same run from its checkpoint, into the same folder of curves."""
    start = whole.checkpoint(RESUMED_AT)
    return shared_launcher.start(programme(), ranks=2, resume_from=start).finish()


def lines(run, kind: str, rank: int = 0) -> list[dict[str, Any]]:
    return run.ranks[rank].of_kind(kind)


def test_steps_before_the_ramp_have_the_small_batch(whole) -> None:
    assert [line["tokens"] // 32 for line in lines(whole, "step")] == [4, 4, 4, 8, 8, 8, 8, 8]


def test_the_rate_warms_up_stays_and_falls(whole) -> None:
    peak = 3e-3

    rates = [line["learning_rate"] for line in lines(whole, "step")]

    assert [rate / peak for rate in rates] == pytest.approx([0, 0.5, 1, 1, 1, 0.75, 0.5, 0.25])


def test_a_step_says_its_memory_and_that_it_was_not_skipped(whole) -> None:
    for line in lines(whole, "step"):
        assert 50e6 < line["memory_bytes"] < 5e9
        assert line["skipped"] == 0


def test_a_resumed_run_goes_on_with_the_same_samples_after_the_ramp(whole, resumed) -> None:
    rest = {step: loss for step, loss in whole.losses().items() if step > RESUMED_AT}

    assert resumed.losses() == rest


def test_the_held_out_loss_is_measured_in_a_phase_of_its_own(whole) -> None:
    told = [line.get("phase") or line["step"] for line in whole.ranks[0].lines]

    assert told[told.index(4) : told.index(5)] == [4, "evaluate", 4, "train"]
    evaluations = lines(whole, "evaluation")
    assert [line["step"] for line in evaluations] == [4, 8]
    assert evaluations[0]["tokens"] == 2 * 8 * 32
    assert lines(whole, "evaluation", rank=1)[0]["loss"] == evaluations[0]["loss"]


def test_the_held_out_loss_is_that_of_the_resumed_run(whole, resumed) -> None:
    assert lines(resumed, "evaluation")[-1]["loss"] == lines(whole, "evaluation")[-1]["loss"]


def test_evaluation_does_not_touch_training(launcher, programme, whole) -> None:
    config = programme(data={"cache_dir": str(programme.folder / "other-cache")})
    config["training"]["evaluation"] = None
    config["logging"]["tensorboard_dir"] = None

    run = launcher.start(config, ranks=2).finish()

    assert run.losses() == whole.losses()


def test_curves_have_megatrons_names_and_come_from_the_last_rank(whole, resumed, programme) -> None:
    curves = read_curves(programme.folder / "curves")

    over_samples = ["batch-size", "grad-norm", "learning-rate", "lm loss", "world-size"]
    validation = ["lm loss validation", "lm loss validation ppl"]
    both = [*over_samples, *validation]
    once = ["iteration-time", "mem-max-allocated-bytes", "samples vs steps"]
    assert sorted(curves) == sorted([*both, *(f"{tag} vs samples" for tag in both), *once])
    assert curves["batch-size"] == dict(zip(range(1, 9), [4, 4, 4, 8, 8, 8, 8, 8], strict=True))
    assert curves["lm loss"] == pytest.approx(whole.losses(), rel=1e-6)
    assert list(curves["lm loss vs samples"]) == [4, 8, 12, 20, 28, 36, 44, 52]
    losses = {line["step"]: line["loss"] for line in lines(whole, "evaluation")}
    perplexities = {step: math.exp(loss) for step, loss in losses.items()}
    assert curves["lm loss validation"] == pytest.approx(losses, rel=1e-6)
    assert curves["lm loss validation ppl"] == pytest.approx(perplexities, rel=1e-6)


def test_the_log_of_the_first_rank_reads_as_one_line_a_step(whole) -> None:
    log = whole.ranks[0].log.read_text().splitlines()

    steps = [line for line in log if line.startswith("step ")]
    assert len(steps) == STEPS
    assert all(len(line) <= 100 for line in steps)
    (first, _) = [line for line in log if line.startswith("evaluation")]
    loss = lines(whole, "evaluation")[0]["loss"]
    assert f"loss {loss:.4f}  perplexity {math.exp(loss):.4g}" in first


def test_marks_go_on_through_an_evaluation(whole) -> None:
    mark = read_mark(whole.ranks[0].mark_file)

    assert mark is not None
    assert mark.step == STEPS


def read_curves(folder) -> dict[str, dict[int, float]]:
    """Each curve as TensorBoard reads it; of a step that came again, the last point."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    reader.Reload()
    return {
        tag: {point.step: float(np.float64(point.value)) for point in reader.Scalars(tag)}
        for tag in reader.Tags()["scalars"]
    }
