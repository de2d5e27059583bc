"""Batch sizes by phases: when each begins, and how many steps a token budget takes."""

import pytest
from pydantic import ValidationError

from orchestrator.records.batch_ramp import ramp_of, ramp_problems
from orchestrator.specs.training import TrainingSpec

LLAMA = 8192  # tokens of a sequence; batches of 4, 8 and 16 Mi tokens are 512, 1024 and 2048


def training(phases=(), **changes) -> TrainingSpec:
    batch = phases[-1][1] if phases else 2048
    ramp = [{name: start, "global_batch_size": size} for (name, start), size in phases]
    given = {"sequence_length": LLAMA, "global_batch_size": batch, "steps": 100, "batch_ramp": ramp}
    return TrainingSpec.model_validate(given | changes, strict=False)


def phase_steps(spec: TrainingSpec, tokens: int) -> list[int]:
    ramp = ramp_of(spec)
    last = ramp.steps_for(-(-tokens // spec.sequence_length))
    starts = [phase.first_step for phase in ramp.phases]
    return [end - start for start, end in zip(starts, [*starts[1:], last], strict=True)]


def llama_ramp(first) -> TrainingSpec:
    second = ("from_tokens", 2_870_000_000_000)
    return training([(("from_steps", 0), 512), (first, 1024), (second, 2048)])


def test_llama_405bs_ramp_takes_the_steps_that_were_counted():
    steps = phase_steps(llama_ramp(("from_steps", 60)), 15_600_000_000_000)

    assert steps == [60, 342_101, 758_767]
    assert sum(steps) == 1_100_928


def test_a_threshold_of_252_million_tokens_is_reached_one_step_later():
    # 60 steps are 251.66 million tokens, which the paper's 252 million round.
    steps = phase_steps(llama_ramp(("from_tokens", 252_000_000)), 15_600_000_000_000)

    assert steps == [61, 342_101, 758_767]


def test_a_phase_begins_with_the_first_step_that_has_enough_behind_it():
    ramp = ramp_of(training([(("from_samples", 0), 4), (("from_samples", 9), 8)]))

    assert [ramp.batch_size_after(steps) for steps in range(5)] == [4, 4, 4, 8, 8]
    assert [ramp.samples_after(steps) for steps in range(6)] == [0, 4, 8, 12, 20, 28]


@pytest.mark.parametrize(("samples", "steps"), [(1, 1), (4, 1), (12, 3), (13, 4), (20, 4), (21, 5)])
def test_steps_are_counted_through_the_phases(samples, steps):
    ramp = ramp_of(training([(("from_samples", 0), 4), (("from_samples", 9), 8)]))

    assert ramp.steps_for(samples) == steps


def test_without_a_ramp_every_step_has_the_batch():
    ramp = ramp_of(training())

    assert ramp.batch_size_after(10**6) == 2048
    assert ramp.steps_for(2 * 2048) == 2


@pytest.mark.parametrize(
    ("phases", "said"),
    [
        (
            [(("from_steps", 5), 4), (("from_steps", 9), 8)],
            "training.batch_ramp.0: from_steps 5: the first phase begins at 0",
        ),
        (
            [(("from_steps", 0), 4), (("from_samples", 40), 8), (("from_steps", 10), 16)],
            "training.batch_ramp.2: from_steps 10 is step 10, not after step 10",
        ),
        (
            [(("from_steps", 0), 4), (("from_tokens", 3), 8)],
            "training.batch_ramp.1: from_tokens 3 is step 0, not after step 0",
        ),
    ],
    ids=["not-from-0", "twice-the-same-step", "rounds-to-0"],
)
def test_phases_that_do_not_follow_one_another_are_named(phases, said):
    (problem,) = ramp_problems(training(phases))

    assert said in str(problem)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"batch_ramp": [{"from_steps": 0, "global_batch_size": 4}]},
            "batch_ramp ends with a global_batch_size of 4, and global_batch_size is 2048",
        ),
        (
            {"batch_ramp": [{"from_steps": 0, "from_tokens": 0, "global_batch_size": 4}]},
            "give exactly one of from_steps, from_samples and from_tokens",
        ),
        ({"batch_ramp": [{"global_batch_size": 4}]}, "give exactly one of from_steps"),
        (
            {"optimizer": {"decay_style": "wsd"}},
            "decay_style wsd needs wsd_decay_steps",
        ),
        (
            {"optimizer": {"wsd_decay_steps": 3}},
            "wsd_decay_steps go with decay_style wsd, not cosine",
        ),
        (
            {"optimizer": {"warmup_steps": 3, "warmup_fraction": 0.1}},
            "give either warmup_steps or warmup_fraction",
        ),
        (
            {"optimizer": {"initial_learning_rate": 1.0}},
            "initial_learning_rate 1.0 is above learning_rate 0.0003",
        ),
        ({"fp8_recipe": "delayed"}, "fp8_recipe delayed goes with precision fp8, not bf16"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_programme_that_contradicts_itself_is_refused(changes, said):
    with pytest.raises(ValidationError, match=said):
        training(**changes)


def test_a_warm_up_fraction_is_of_the_decay():
    optimizer = training(optimizer={"warmup_fraction": 0.25, "decay_steps": 10}).optimizer

    assert optimizer.warmup_steps_of(1000) == 2
    assert training(optimizer={"warmup_fraction": 0.25}).optimizer.warmup_steps_of(1000) == 250
