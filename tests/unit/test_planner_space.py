"""Which layouts are proposed, and which never."""

from dataclasses import replace

import pytest

from orchestrator.catalog.resolve import resolve
from orchestrator.planner.cuts import chunks_of
from orchestrator.planner.space import LONG_SEQUENCE, candidates
from orchestrator.records.engine import MEGATRON_FAMILY
from orchestrator.records.run import ResolvedRun
from orchestrator.rules.table import violations
from orchestrator.schedules import stages
from orchestrator.specs.choices import RecomputeGranularity, ScheduleKind
from orchestrator.specs.cluster import ClusterSpec
from orchestrator.specs.run import RunSpec
from orchestrator.specs.training import TrainingSpec


def _run(
    model: str, *, gpus: int, sequence: int = 2048, batch: int = 1024, cluster: str = "dgx-h100"
) -> ResolvedRun:
    training = TrainingSpec(sequence_length=sequence, global_batch_size=batch, steps=1)
    spec = RunSpec(
        schema=1,
        name="x",
        model=model,
        cluster=ClusterSpec(card=cluster, gpus=gpus),
        training=training,
    )
    return resolve(spec, file="x")


def test_every_candidate_uses_every_rank_and_none_comes_twice():
    run = _run("gpt3-175b", gpus=1024)

    found = candidates(run, capabilities=MEGATRON_FAMILY)

    assert {layout.world_size for layout in found} == {1024}
    assert len(set(found)) == len(found)


def test_tp_stays_inside_the_fast_links():
    run = _run("gpt3-175b", gpus=1024)

    assert {layout.tp for layout in candidates(run, capabilities=MEGATRON_FAMILY)} == {1, 2, 4, 8}


@pytest.mark.parametrize("axis", ["tp", "pp", "cp", "vpp", "ep", "etp"])
def test_an_axis_that_the_engine_lacks_stays_at_one(axis: str):
    axes = tuple(one for one in MEGATRON_FAMILY.axes if one != axis)
    run = _run("mixtral-8x7b", gpus=64, sequence=LONG_SEQUENCE)

    found = candidates(run, capabilities=replace(MEGATRON_FAMILY, axes=axes))

    assert {getattr(layout, axis) for layout in found} == {1}


def test_a_schedule_that_the_engine_lacks_is_not_proposed():
    capabilities = replace(
        MEGATRON_FAMILY, schedules=(ScheduleKind.NO_PIPELINE, ScheduleKind.ONE_F_ONE_B)
    )

    found = candidates(_run("gpt3-175b", gpus=64), capabilities=capabilities)

    assert {layout.schedule for layout in found} == set(capabilities.schedules)


def test_zero_2_and_3_are_proposed_without_a_pipeline_alone():
    capabilities = replace(MEGATRON_FAMILY, zero_stages=(0, 1, 2, 3), pipeline_zero_stages=(0, 1))

    found = candidates(_run("llama-3.1-8b", gpus=64), capabilities=capabilities)

    assert {layout.zero_stage for layout in found if layout.pp == 1} == {1, 2, 3}
    assert {layout.zero_stage for layout in found if layout.pp > 1} == {1}


def test_context_parallelism_waits_for_long_sequences():
    short, long = (
        candidates(_run("llama-3.1-8b", gpus=64, sequence=length), capabilities=MEGATRON_FAMILY)
        for length in (LONG_SEQUENCE // 2, LONG_SEQUENCE)
    )

    assert {layout.cp for layout in short} == {1}
    assert {layout.cp for layout in long} > {1, 2, 4}


def test_405b_on_16_ranks_counts_embedding_and_loss_as_layers():
    run = _run("llama-3.1-405b", gpus=16_384)

    chunks = chunks_of(run, MEGATRON_FAMILY, pp=16)

    assert {one.vpp: one.stage_layout for one in chunks}[8] == stages.text_of(
        stages.parse("E|(t|)*126,L")
    )


def test_layers_that_never_divide_are_spread_as_evenly_as_it_goes():
    run = _run("deepseek-v3", gpus=2048)

    chunks = chunks_of(run, MEGATRON_FAMILY, pp=8)

    for one in chunks:
        layout = stages.parse(one.stage_layout or "")
        inner = [stage.decoder_layers for stage in layout.stages[1:-1]]
        assert layout.num_layers == 61
        assert max(inner) - min(inner) <= 1


@pytest.mark.parametrize("model", ["gpt3-175b", "mixtral-8x7b", "deepseek-v3", "llama-3.1-405b"])
def test_what_the_table_of_rules_refuses_is_about_the_batch(model: str):
    run = _run(model, gpus=512, batch=960)

    broken = {
        problem.rule
        for layout in candidates(run, capabilities=MEGATRON_FAMILY)
        for problem in violations(run, layout, capabilities=MEGATRON_FAMILY)
    }

    assert broken <= {"microbatches", "schedule"}


def test_unfused_attention_recomputes_its_scores():
    run = _run("tiny-gpt", gpus=4, cluster="local-cpu", batch=16, sequence=256)

    found = candidates(run, capabilities=MEGATRON_FAMILY)

    assert {
        layout.recompute.modules
        for layout in found
        if layout.recompute.granularity is RecomputeGranularity.SELECTIVE
    } == {("core_attn",)}


def test_experts_are_spread_over_powers_of_two_that_divide_them():
    run = _run("mixtral-8x7b", gpus=64)

    found = candidates(run, capabilities=MEGATRON_FAMILY)

    assert {layout.ep for layout in found} == {1, 2, 4, 8}
    assert all(layout.etp in {1, layout.tp} for layout in found)
