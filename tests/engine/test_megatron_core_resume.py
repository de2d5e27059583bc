"""A run that was interrupted and resumed is the run that was not."""

import signal
from typing import Any

import pytest

LAST_STEP = 12


@pytest.fixture(scope="module")
def undisturbed(shared_launcher, gpt) -> Any:
    """Twelve steps on two data-parallel ranks with the distributed optimizer."""
    return shared_launcher.start(gpt(), ranks=2).finish()


def after(run, first_step: int) -> dict[int, float]:
    losses = run.losses()
    return {step: losses[step] for step in range(first_step + 1, LAST_STEP + 1)}


def test_a_run_resumed_in_its_layout_repeats_every_bit(launcher, gpt, undisturbed) -> None:
    run = launcher.start(gpt(), ranks=2, resume_from=undisturbed.checkpoint(6)).finish()

    assert run.losses() == after(undisturbed, 6)


def test_dropout_goes_on_where_it_was(launcher, gpt) -> None:
    config = gpt(training={"hidden_dropout": 0.1, "attention_dropout": 0.1, "steps": 4})
    whole = launcher.start(config).finish()

    rest = launcher.start(config, resume_from=whole.checkpoint(2)).finish()

    assert rest.losses() == {step: whole.losses()[step] for step in (3, 4)}


def test_a_run_resumed_in_another_layout_differs_by_rounding_only(
    launcher, gpt, undisturbed
) -> None:
    config = gpt(parallel={"pp": 2})

    run = launcher.start(config, ranks=2, resume_from=undisturbed.checkpoint(6)).finish()

    assert run.losses() == pytest.approx(after(undisturbed, 6), abs=1e-6, rel=0)


def test_a_rank_asked_to_leave_takes_all_along_and_loses_no_step(
    launcher, gpt, undisturbed
) -> None:
    run = launcher.start(gpt(checkpoint={"interval_steps": 100}), ranks=2)
    run.ranks[0].wait_for(lambda rank: len(rank.of_kind("step")) >= 3)
    run.ranks[1].process.send_signal(signal.SIGTERM)
    run.ranks[1].process.send_signal(signal.SIGTERM)
    run.finish()
    (left,) = run.ranks[0].of_kind("left")

    rest = launcher.start(gpt(), ranks=2, resume_from=run.checkpoint(left["step"])).finish()

    assert run.losses() | rest.losses() == undisturbed.losses()


def test_every_rank_says_where_it_left_and_that_its_part_is_staged(launcher, gpt) -> None:
    run = launcher.start(
        gpt(training={"steps": 1000}, checkpoint={"interval_steps": 1000}), ranks=2
    )
    run.ranks[0].wait_for(lambda rank: len(rank.of_kind("step")) >= 2)
    run.ranks[0].process.send_signal(signal.SIGTERM)
    run.finish()

    (step,) = {line["step"] for rank in run.ranks for line in rank.of_kind("left")}
    staged = [line for rank in run.ranks for line in rank.of_kind("checkpoint")]
    assert [(line["step"], line["path"]) for line in staged] == [
        (step, str(run.checkpoint(step))),
        (step, str(run.checkpoint(step))),
    ]
    assert [rank.lines[-1] for rank in run.ranks] == [{"kind": "phase", "phase": "leave"}] * 2


def test_another_models_checkpoint_is_refused(launcher, gpt, undisturbed) -> None:
    config = gpt(model={"hidden_size": 128, "head_dim": 32})

    (rank,) = launcher.start(config, resume_from=undisturbed.checkpoint(6)).ranks

    assert rank.wait() == 5
    (refused,) = rank.of_kind("refused")
    assert "hidden_size is 64 there and 128 here" in refused["reason"]


def test_a_new_learning_rate_is_honoured_after_a_resume(launcher, gpt, undisturbed) -> None:
    settings = gpt()["training"]["optimizer"] | {"learning_rate": 1e-2, "decay_style": "constant"}
    config = gpt(training={"optimizer": settings, "steps": 7})

    run = launcher.start(config, resume_from=undisturbed.checkpoint(6)).finish()

    assert [line["learning_rate"] for line in run.ranks[0].of_kind("step")] == [1e-2]
