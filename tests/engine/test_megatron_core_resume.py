"""A run that was interrupted and resumed is the run that was not.

In its own layout it repeats every bit, dropout too: gloo adds in one order, and random states are
kept by place. In another layout it differs by rounding; dropout then begins anew, as places differ.
"""

import signal
from typing import Any

import pytest

from tests.engine.breadth import cases

LAST_STEP = 8
HALF = 4
HALVES = {"checkpoint": {"interval_steps": HALF}}

SAME_LAYOUT = {
    "tp2-pp2": (4, {"parallel": {"tp": 2, "pp": 2}}),
    "pp2-vpp2": (2, {"parallel": {"pp": 2, "vpp": 2}}),
    "cp2-overlapped": (2, {"parallel": {"cp": 2, "overlap": ["dp"]}}),
    "bf16-tp2-dp2": (4, {"parallel": {"tp": 2}, "training": {"precision": "bf16"}}),
    "bf16-zero0": (2, {"parallel": {"zero_stage": 0}, "training": {"precision": "bf16"}}),
    "dropout-tp2": (2, {"parallel": {"tp": 2}, "training": {"hidden_dropout": 0.1}}),
}
SAME_ALWAYS = ("tp2-pp2", "pp2-vpp2", "bf16-tp2-dp2", "dropout-tp2")
OTHER_LAYOUTS = {
    "pp4": (4, {"pp": 4}),
    "dp4": (4, {}),
    "one-rank-zero0": (1, {"zero_stage": 0}),
    "pp2-vpp2": (2, {"pp": 2, "vpp": 2}),
    "cp2-tp2": (4, {"cp": 2, "tp": 2}),
}

OTHER_ALWAYS = ("pp4", "dp4", "pp2-vpp2", "cp2-tp2")  # tp2-pp2 to tp1-pp4, and to other dp


@pytest.fixture(scope="module")
def gpt(gpt) -> Any:
    """Configurations of eight steps."""

    def make(**changes: Any) -> dict[str, Any]:
        training = {"steps": LAST_STEP, **changes.pop("training", {})}
        return gpt(training=training, **changes)

    return make


@pytest.fixture(scope="module")
def undisturbed(warm, gpt) -> Any:
    """Eight steps on two data-parallel ranks with the distributed optimizer."""
    return warm.run(gpt(), ranks=2, staged=True)


@pytest.fixture(scope="module")
def tp2_pp2(warm, gpt) -> Any:
    """Eight steps on two tensor-parallel halves of two pipeline stages."""
    return warm.run(gpt(parallel={"tp": 2, "pp": 2}, **HALVES), ranks=4, staged=True)


def after(run, first_step: int) -> dict[int, float]:
    losses = run.losses()
    return {step: losses[step] for step in range(first_step + 1, LAST_STEP + 1)}


def test_a_run_resumed_in_its_layout_repeats_every_bit(warm, gpt, undisturbed) -> None:
    run = warm.run(gpt(), ranks=2, resume_from=undisturbed.checkpoint(HALF))

    assert run.losses() == after(undisturbed, HALF)


@pytest.mark.parametrize(("ranks", "changes"), cases(SAME_LAYOUT, always=SAME_ALWAYS))
def test_every_layout_repeats_every_bit(warm, gpt, ranks, changes) -> None:
    whole = warm.run(gpt(**changes, **HALVES), ranks=ranks, staged=True)

    rest = warm.run(gpt(**changes), ranks=ranks, resume_from=whole.checkpoint(HALF))

    assert rest.losses() == after(whole, HALF)


def test_dropout_goes_on_where_it_was(warm, gpt) -> None:
    config = gpt(training={"hidden_dropout": 0.1, "attention_dropout": 0.1, "steps": 4})
    whole = warm.run(config, staged=True)

    rest = warm.run(config, resume_from=whole.checkpoint(2))

    assert rest.losses() == {step: whole.losses()[step] for step in (3, 4)}


@pytest.mark.parametrize(("ranks", "parallel"), cases(OTHER_LAYOUTS, always=OTHER_ALWAYS))
def test_a_run_resumed_in_another_layout_differs_by_rounding_only(
    warm, gpt, tp2_pp2, ranks, parallel
) -> None:
    run = warm.run(gpt(parallel=parallel), ranks=ranks, resume_from=tp2_pp2.checkpoint(HALF))

    assert run.losses() == pytest.approx(after(tp2_pp2, HALF), rel=1e-6)


def test_a_run_without_sharding_resumes_with_it(warm, gpt) -> None:
    whole = warm.run(gpt(parallel={"zero_stage": 0}, **HALVES), staged=True)

    rest = warm.run(gpt(), ranks=2, resume_from=whole.checkpoint(HALF))

    assert rest.losses() == pytest.approx(after(whole, HALF), rel=1e-6)


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


def test_another_models_checkpoint_is_refused(warm, gpt, undisturbed) -> None:
    config = gpt(model={"hidden_size": 128, "head_dim": 32})

    run = warm.attempt(config, resume_from=undisturbed.checkpoint(HALF))

    assert run.codes == [5]
    assert "hidden_size is 64 there and 128 here" in run.refusal()


def test_a_new_learning_rate_is_honoured_after_a_resume(warm, gpt, undisturbed) -> None:
    settings = gpt()["training"]["optimizer"] | {"learning_rate": 1e-2, "decay_style": "constant"}
    config = gpt(training={"optimizer": settings, "steps": HALF + 1})

    run = warm.run(config, resume_from=undisturbed.checkpoint(HALF))

    rates = [line["learning_rate"] for line in run.lines() if line["kind"] == "step"]
    assert rates == [1e-2]
