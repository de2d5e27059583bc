"""Rules in words: what is refused and warned of, with which numbers, and on which engine."""

from dataclasses import replace

import pytest

from orchestrator.catalog.resolve import resolve
from orchestrator.records.engine import (
    MEGATRON_FAMILY,
    EngineCapabilities,
    EngineFamily,
    release,
)
from orchestrator.rules.table import first_violation, violations, warnings
from orchestrator.specs.choices import Precision, RecomputeGranularity, ScheduleKind
from orchestrator.specs.document import parse_run

GOOD = """
schema: 1
name: r
model: llama-2-13b
cluster: {card: dgx-h100, hosts: 4}
training: {sequence_length: 4096, global_batch_size: 256, steps: 100, precision: bf16}
layout: {tp: 4, pp: 4, vpp: 5, micro_batch_size: 1, sequence_parallel: true, overlap: [dp, pp, tp]}
"""

NARROW = EngineCapabilities(
    name="narrow",
    version="1",
    zero_stages=(0, 1),
    pipeline_zero_stages=(0,),
    schedules=(ScheduleKind.ONE_F_ONE_B,),
    recompute=(RecomputeGranularity.FULL,),
    precisions=(Precision.BF16,),
    axes=("tp", "pp", "vpp"),
    model_features=(),
    activations=("silu",),
    overlaps=(),
)


def found(*changes: tuple[str, str], capabilities: EngineCapabilities | None = None):
    text = GOOD
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    run = resolve(parse_run(text, file="run.yaml"), file="run.yaml")
    assert run.layout is not None
    problems = violations(run, run.layout, capabilities=capabilities)
    first = first_violation(run, run.layout, capabilities=capabilities)
    assert first == (problems[0] if problems else None)
    return {problem.rule: str(problem) for problem in problems}


def test_a_good_layout_breaks_no_rule():
    assert found(capabilities=MEGATRON_FAMILY) == {}


CASES = [
    (
        "world-size",
        [("tp: 4", "tp: 5")],
        "layout: tp 5 x cp 1 x pp 4 = 20 does not divide the 32 ranks of the cluster",
    ),
    (
        "tp-heads",
        [("tp: 4", "tp: 16"), ("pp: 4", "pp: 2"), ("vpp: 5", "vpp: 2")],
        (
            "layout.tp: 16 does not divide 40 attention heads (llama-2-13b)\n"
            "  possible: 1, 2, 4, 5, 8, 10, 20; on 8-GPU hosts use 8 or less"
        ),
    ),
    (
        "stages",
        [("vpp: 5", "vpp: 3")],
        "layout.vpp: 40 layers (llama-2-13b) do not divide into pp 4 x vpp 3 = 12 stages",
    ),
    (
        "microbatches",
        [("global_batch_size: 256", "global_batch_size: 255")],
        (
            "training.global_batch_size: 255 is not a multiple of micro_batch_size 1 x dp 2 = 2\n"
            "  possible: 254, 256"
        ),
    ),
    (
        "schedule",
        [("global_batch_size: 256", "global_batch_size: 4")],
        "layout.schedule: interleaved-1f1b needs at least pp microbatches a step",
    ),
    (
        "microbatches",
        [("global_batch_size: 256", "global_batch_size: 1")],
        "training.global_batch_size: 1 is not a multiple of micro_batch_size 1 x dp 2",
    ),
    (
        "overlap-one-chunk",
        [("vpp: 5", "vpp: 1")],
        "layout.overlap: 1f1b cannot overlap pipeline communication",
    ),
    (
        "context-chunks",
        [
            ("pp: 4", "pp: 2"),
            ("vpp: 5", "vpp: 2, cp: 2"),
            ("4096", "4094"),
            ("sequence_parallel: true, ", ""),
        ],
        "training.sequence_length: 4094 is not a multiple of 2 x cp = 4",
    ),
    (
        "sequence-parallel-tp",
        [("tp: 4", "tp: 1")],
        "layout.sequence_parallel: true with tp 1",
    ),
    ("no-experts", [("vpp: 5", "vpp: 5, ep: 2")], "layout.ep: 2, but llama-2-13b has no experts"),
    (
        "zero-replicas",
        [("vpp: 5", "vpp: 5, zero_replicas: 3")],
        "layout.zero_replicas: 3 does not divide dp 2 x cp 1 = 2\n  possible: 1, 2",
    ),
    (
        "warmup",
        [("steps: 100", "steps: 100, optimizer: {warmup_steps: 100}")],
        "training.optimizer.warmup_steps: 100 is not below the 100 steps",
    ),
    (
        "precision",
        [("card: dgx-h100", "card: dgx-a100-80"), ("bf16", "fp8")],
        "training.precision: fp8 does not run on a100-80gb-sxm\n  possible: bf16, fp32",
    ),
    (
        "fp8-widths",
        [("llama-2-13b", "gpt3-175b"), ("tp: 4", "tp: 8"), ("vpp: 5", "vpp: 6"), ("bf16", "fp8")],
        None,
    ),
    (
        "stage-layout",
        [("vpp: 5", "vpp: 5, stage_layout: 'Et|t|L'")],
        "layout.stage_layout: 'Et|t|L':",
    ),
]


@pytest.mark.parametrize(
    ("rule", "changes", "text"), CASES, ids=[f"{case[0]}-{i}" for i, case in enumerate(CASES)]
)
def test_a_breach_is_named_with_its_numbers(rule, changes, text):
    problems = found(*changes)

    if text is None:
        assert rule not in problems
    else:
        assert problems[rule].startswith(text), problems


def test_a_recomputed_module_has_one_of_megatrons_names():
    problems = found(("vpp: 5", "vpp: 5, recompute: {granularity: selective, modules: [mlpp]}"))

    assert problems["recompute-modules"] == (
        "layout.recompute.modules.0: 'mlpp' is no module that can be recomputed\n"
        "  did you mean 'mlp'?"
    )


MOE_CASES = [
    ("ep-experts", "ep: 3, pp: 1", "layout.ep: 3 does not divide 8 experts"),
    ("expert-world", "ep: 8, etp: 8, tp: 1", "layout.ep: etp 8 x ep 8 x pp 1 = 64 does not divide"),
    ("experts-sequence-parallel", "tp: 2, ep: 8, etp: 1", "layout.sequence_parallel: false"),
]


@pytest.mark.parametrize(("rule", "layout", "text"), MOE_CASES, ids=[case[0] for case in MOE_CASES])
def test_experts_have_rules_of_their_own(rule, layout, text):
    changes = [("llama-2-13b", "mixtral-8x7b"), (GOOD.splitlines()[-1], f"layout: {{{layout}}}")]

    assert found(*changes)[rule].startswith(text)


ENGINE_CASES = [
    ("engine-axes", [("pp: 4", "pp: 2, cp: 2"), ("vpp: 5", "vpp: 2")], "layout.cp: 2, but narrow"),
    ("engine-zero-stage", [("vpp: 5", "vpp: 5, zero_stage: 3")], "layout.zero_stage: 3, but"),
    ("zero-pipeline", [("vpp: 5", "vpp: 5, zero_stage: 1")], "layout.zero_stage: 1 with pp 4"),
    (
        "engine-recompute",
        [("vpp: 5", "vpp: 5, recompute: {granularity: selective, modules: [core_attn]}")],
        "layout.recompute.granularity: selective is not run by narrow, which knows none, full",
    ),
    ("engine-precision", [("bf16", "fp8")], "training.precision: fp8 is not run by narrow"),
    ("engine-model", [("llama-2-13b", "mixtral-8x7b"), ("vpp: 5", "vpp: 2")], "model: mixtral"),
    (
        "engine-model",
        [("llama-2-13b", "gpt3-175b"), ("vpp: 5", "vpp: 2")],
        "model: gpt3-175b has activation gelu",
    ),
    (
        "engine-version",
        [("\nlayout:", "\nengine: {version: '9'}\nlayout:")],
        "engine.version: 9, but narrow runs 1",
    ),
    ("engine-schedule", [], "layout.schedule: interleaved-1f1b is not run by narrow"),
]


@pytest.mark.parametrize(
    ("rule", "changes", "text"),
    ENGINE_CASES,
    ids=[f"{case[0]}-{i}" for i, case in enumerate(ENGINE_CASES)],
)
def test_what_an_engine_does_not_run_is_refused_by_name(rule, changes, text):
    assert found(*changes, capabilities=NARROW)[rule].startswith(text)


def test_llama_405b_in_its_published_layout_breaks_no_rule():
    text = """
schema: 1
name: llama
model: llama-3.1-405b
cluster: {card: dgx-h100, hosts: 2048}
training: {sequence_length: 8192, global_batch_size: 2048, tokens: 15_600_000_000_000}
layout: {tp: 8, pp: 16, vpp: 8, sequence_parallel: true, stage_layout: "E|(t|)*126,L",
         overlap: [dp, pp, tp]}
"""
    run = resolve(parse_run(text, file="run.yaml"), file="run.yaml")
    assert run.layout is not None

    assert violations(run, run.layout, capabilities=MEGATRON_FAMILY) == ()


def warned(*changes: tuple[str, str], capabilities: EngineCapabilities | None = None):
    text = GOOD
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    run = resolve(parse_run(text, file="run.yaml"), file="run.yaml")
    assert run.layout is not None
    return {p.rule: str(p) for p in warnings(run, run.layout, capabilities=capabilities)}


def test_a_good_layout_gets_no_warning():
    assert warned(capabilities=MEGATRON_FAMILY) == {}


def test_a_warning_says_its_numbers_and_is_no_violation():
    change = [("tp: 4", "tp: 20"), ("pp: 4", "pp: 2")]

    assert warned(*change)["tp-beyond-fast-links"] == (
        "layout.tp: 20 ranks reach beyond the 8 GPUs joined by fast links: every layer would "
        "wait for the network\n  possible: 4, 5, 8"
    )
    assert "tp-beyond-fast-links" not in found(*change)


MORE_RAMP = [
    ("\nlayout:", "\nengine: {arguments: ['--rampup-batch-size', '1', '1', '9']}\nlayout:")
]


@pytest.mark.parametrize(
    ("version", "rule"),
    [("0.17.1", None), ("0.18.2", "rampup-ignored"), ("0.19.2", "rampup-ignored")],
)
def test_a_rule_is_silent_for_releases_before_it(version: str, rule: str | None):
    engine = replace(MEGATRON_FAMILY, version=version)

    assert ("rampup-ignored" in warned(*MORE_RAMP, capabilities=engine)) == (rule is not None)


def test_of_an_engine_with_several_releases_the_one_asked_for_is_examined():
    versions = ("0.17.1", "0.18.2")
    engine = replace(MEGATRON_FAMILY, version="0.18.2", versions=versions)
    asked = [("arguments:", "version: 0.17.1, arguments:")]

    assert "rampup-ignored" in warned(*MORE_RAMP, capabilities=engine)
    assert "rampup-ignored" not in warned(
        *[(old, new.replace(*asked[0])) for old, new in MORE_RAMP], capabilities=engine
    )


def test_megatrons_own_rules_are_silent_for_deepspeed():
    engine = replace(MEGATRON_FAMILY, name="deepspeed", family=EngineFamily.DEEPSPEED)
    change = [("sequence_parallel: true, ", "")]

    assert "overlap-tp" in found(*change)
    assert "overlap-tp" not in found(*change, capabilities=engine)


@pytest.mark.parametrize(
    ("version", "numbers"), [("0.16.1", (0, 16, 1)), ("0.17rc1", (0, 17)), ("main", ())]
)
def test_a_version_compares_by_its_numbers(version: str, numbers: tuple[int, ...]):
    assert release(version) == numbers
