"""The planner's answer: order, reasons, and what is said when nothing fits."""

from dataclasses import replace
from itertools import pairwise

import pytest

from orchestrator.catalog.resolve import resolve
from orchestrator.errors import NoPlanFits
from orchestrator.planner.rank import plan
from orchestrator.planner.words import words_of
from orchestrator.records.engine import MEGATRON_FAMILY
from orchestrator.records.run import ResolvedRun
from orchestrator.rules.table import violations
from orchestrator.specs.cluster import ClusterSpec
from orchestrator.specs.run import RunSpec
from orchestrator.specs.training import TrainingSpec


def _run(
    model: str = "gpt3-175b", *, gpus: int = 1024, sequence: int = 2048, batch: int = 1536
) -> ResolvedRun:
    training = TrainingSpec(sequence_length=sequence, global_batch_size=batch, steps=1)
    cluster = ClusterSpec(card="dgx-h100", gpus=gpus)
    return resolve(
        RunSpec(schema=1, name="x", model=model, cluster=cluster, training=training), file="x"
    )


@pytest.fixture(scope="module")
def report():
    return plan(_run(), capabilities=MEGATRON_FAMILY, keep=8)


def test_as_many_plans_as_asked_for_come_best_first(report):
    times = [one.step_time_s for one in report.plans]

    assert len(times) == 8
    # Ties within a thousandth go to the simpler plan.
    assert all(second > first * 0.998 for first, second in pairwise(times))


def test_every_plan_fits_and_obeys_every_rule(report):
    for one in report.plans:
        assert one.memory.total_bytes <= one.run.machine.memory_bytes
        assert violations(one.run, one.layout, capabilities=MEGATRON_FAMILY) == ()


def test_the_published_family_for_175b_wins(report):
    # NVIDIA's recipes for GPT-3 175B on H100: tp 4, pp 8, interleaved, no recomputation.
    best = report.plans[0].layout

    assert (best.tp, best.pp) == (4, 8)
    assert best.vpp > 1


def test_what_fell_out_and_what_is_left_add_up(report):
    everything = plan(_run(), capabilities=MEGATRON_FAMILY, keep=10**6)

    rejected = sum(one.count for one in everything.rejected)
    assert everything.evaluated == rejected + len(everything.plans)
    assert everything.evaluated == report.evaluated


def test_a_rejection_names_its_rule_an_example_and_a_way_in(report):
    by_rule = {one.rule: one for one in report.rejected}

    memory = by_rule["memory"]
    assert "more than the 79.6 GiB of an accelerator" in memory.example
    assert memory.smallest_change.startswith("use ")
    assert by_rule["microbatches"].smallest_change


def test_the_explanation_says_what_limits_and_what_other_choices_cost(report):
    text = "\n".join(report.explanation)

    assert report.plans[0].binding_limit in report.explanation[1]
    assert "tp 8" in text
    assert "slower at best" in text


def test_the_cost_of_another_choice_is_that_of_its_best_plan(report):
    everything = plan(_run(), capabilities=MEGATRON_FAMILY, keep=10**6).plans
    other = next(one for one in everything if one.layout.tp == 8)
    slower = other.step_time_s / everything[0].step_time_s - 1

    sentence = next(text for text in report.explanation if text.startswith("tp 8"))

    assert f"is {slower:.1%} slower at best ({words_of(other.layout)})" in sentence


def test_progress_ends_with_everything_done():
    seen: list[tuple[int, int]] = []

    report = plan(
        _run("llama-3.1-8b", gpus=8, batch=64),
        capabilities=MEGATRON_FAMILY,
        progress=lambda done, total: seen.append((done, total)),
    )

    assert seen[0][0] == 0
    assert seen[-1] == (report.evaluated, report.evaluated)


def test_the_same_question_gets_the_same_answer():
    first, second = (
        plan(_run("llama-3.1-8b", gpus=64, batch=256), capabilities=MEGATRON_FAMILY)
        for _ in range(2)
    )

    assert first == second


def test_too_few_accelerators_say_how_much_memory_is_missing():
    with pytest.raises(NoPlanFits) as caught:
        plan(_run("llama-3.1-405b", gpus=64, sequence=8192), capabilities=MEGATRON_FAMILY)

    text = str(caught.value)
    assert "llama-3.1-405b on 64 x h100-80gb-sxm" in text
    assert "memory: " in text
    assert "hosts or more" in text


def test_a_batch_that_no_layout_divides_names_the_rule():
    capabilities = replace(MEGATRON_FAMILY, axes=("tp", "pp", "vpp"))

    with pytest.raises(NoPlanFits) as caught:
        plan(_run("llama-3.1-8b", gpus=1024, batch=1), capabilities=capabilities)

    assert any(reason.startswith("microbatches: ") for reason in caught.value.reasons)


def test_context_parallelism_is_tried_where_nothing_else_fits():
    run = _run("llama-3.1-8b", gpus=8, sequence=8192, batch=8)
    small = run.machine.accelerator.model_copy(update={"memory_gib": 66.0})
    tight = replace(run, machine=replace(run.machine, accelerator=small))

    report = plan(tight, capabilities=replace(MEGATRON_FAMILY, axes=("cp",)))

    assert report.plans[0].layout.cp > 1


def test_16384_gpus_are_answered_with_an_interleaved_pipeline():
    report = plan(
        _run("llama-3.1-405b", gpus=16_384, sequence=8192, batch=2048),
        capabilities=MEGATRON_FAMILY,
    )

    best = report.plans[0].layout
    assert best.tp == 8
    assert best.pp > 1
    assert best.vpp > 1
