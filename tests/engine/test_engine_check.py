"""What llmorch computes of a run is what installed Megatron-Core makes of it, without a GPU.

One process of the engine answers every question of this module.
"""

from dataclasses import replace

import pytest

from launch.workers.engine_check.questions import Topic
from orchestrator import api
from orchestrator.cli import engine_check, engine_check_compare
from orchestrator.cli.engine_check_conversation import PINNED, conversation
from orchestrator.cli.engine_check_questions import MEGATRON, Job, megatron_questions
from orchestrator.errors import ExitCode
from tests.engine.breadth import asked_for, names

# One process answers for all; beside other work on the same cores it takes its time.
pytestmark = pytest.mark.timeout(900)

TINY = "tiny-gpt"
_TOY = (
    "name: toy, source: [ours], retrieved: 2026-01-01, num_layers: 4, max_sequence_length: 64, "
    "num_attention_heads: 6, num_query_groups: 2, vocab_size: 999"
)
# Norms of heads, a tied embedding, biases on queries alone; no size that an alignment divides.
ODD = (
    f"{{{_TOY}, hidden_size: 48, ffn_hidden_size: 88, head_dim: 20, gated_mlp: true, "
    "activation: silu, normalization: RMSNorm, position_embedding: rope, rotary_base: 10000, "
    "tied_embeddings: true, qkv_bias: true, linear_bias: false, qk_norm: true}"
)
# Learned positions, two vectors a norm, biases everywhere.
OLD = (
    f"{{{_TOY}, hidden_size: 36, ffn_hidden_size: 100, head_dim: 6, gated_mlp: false, "
    "activation: gelu, normalization: LayerNorm, position_embedding: learned_absolute, "
    "tied_embeddings: false, qkv_bias: true, linear_bias: true}"
)
SP = "sequence_parallel: true"

SMALL = {
    "one-rank": (TINY, 1, "zero_stage: 0"),
    "dp": (OLD, 4, "zero_stage: 0"),
    "zero-1": (OLD, 4, "zero_stage: 1"),
    "dp-3": (ODD, 6, "tp: 2"),
    "zero-1-overlapped": (TINY, 4, "zero_stage: 1, overlap: [dp]"),
    "tp": (OLD, 4, "tp: 2, zero_stage: 0"),
    "tp-tied": (ODD, 4, "tp: 2"),
    "sp-learned-positions": (OLD, 4, f"tp: 2, {SP}"),
    "sp-zero-0": (ODD, 4, f"tp: 2, {SP}, zero_stage: 0"),
    "1f1b": (TINY, 8, "pp: 2"),
    "1f1b-tied": (ODD, 8, "pp: 4"),
    "1f1b-tied-zero-0": (ODD, 8, "pp: 4, zero_stage: 0"),
    "1f1b-uneven": (TINY, 8, "tp: 2, pp: 4, stage_layout: 'E|tt|t|tL'"),
    "interleaved": (ODD, 8, f"pp: 2, vpp: 2, tp: 2, {SP}, overlap: [pp]"),
    "interleaved-four-ranks": (TINY, 16, "pp: 4, tp: 2, vpp: 1, micro_batch_size: 2"),
    "full-recompute": (ODD, 4, "tp: 2, pp: 2, recompute: {granularity: full}"),
    "recompute-a-layer": (
        *(ODD, 4),
        f"tp: 2, pp: 2, {SP}, recompute: {{granularity: full, layers: 1}}",
    ),
    "recompute-mlp": (
        *(ODD, 4),
        f"tp: 2, {SP}, recompute: {{granularity: selective, modules: [mlp]}}",
    ),
}
LARGE = {
    "175b-1024": ("gpt3-175b", 1024, "tp: 8, pp: 8"),
    "405b-1024": (
        *("llama-3.1-405b", 1024),
        f"tp: 8, pp: 16, vpp: 8, {SP}, stage_layout: 'E|(t|)*126,L'",
    ),
    "405b-16384": (
        *("llama-3.1-405b", 16384),
        f"tp: 8, pp: 16, {SP}, overlap: [dp], stage_layout: 'Et*7|(t*8|)*14,t*7L'",
    ),
    "405b-1024-cp": (
        *("llama-3.1-405b", 1024),
        f"tp: 8, cp: 4, pp: 16, {SP}, stage_layout: 'Et*7|(t*8|)*14,t*7L'",
    ),
    "mixtral-ep": ("mixtral-8x22b", 1024, f"tp: 4, pp: 8, ep: 8, etp: 1, {SP}"),
    "deepseek-ep": ("deepseek-v3", 2048, "tp: 1, pp: 1, ep: 64"),
}
CASES = {**SMALL, **LARGE}
ALWAYS = (
    *("zero-1", "zero-1-overlapped", "tp", "sp-zero-0", "1f1b", "1f1b-tied", "interleaved"),
    *("full-recompute", "recompute-mlp", "175b-1024", "405b-16384", "mixtral-ep"),
)
REFUSED = "six heads over four ranks"
BATCH = {"175b-1024": 64, "405b-1024": 128, "405b-16384": 512}  # 4, 16 and 4 microbatches
# A real layer costs a second of CPU in forty microbatches: of large runs one rank or two.
RANKS = {"175b-1024": (0, -1), "405b-1024": (-1,), "405b-16384": (1,)}
WITHOUT_STEP = ("405b-1024-cp", "mixtral-ep", "deepseek-ep")


def job_of(name):
    model, gpus, layout = CASES[name]
    small = name in SMALL
    text = f"""
schema: 1
name: {name}
model: {model}
cluster: {{card: {"dgx-a100-80" if small else "dgx-h200"}, gpus: {gpus}}}
training:
  sequence_length: {32 if small else 2048 if "175b" in name else 8192}
  global_batch_size: {BATCH.get(name, 48 if small else 2048)}
  steps: 1000
  precision: {"fp32" if "zero-0" in name else "bf16"}
layout: {{{layout}}}
"""
    run = api.read_run(text, file=name)
    return Job(run=run, layout=run.layout)


@pytest.fixture(scope="module")
def jobs(request):
    jobs = {name: job_of(name) for name in asked_for(request, CASES, always=ALWAYS)}
    # The rules refuse this first, so no run file says it.
    tp = jobs["tp"]
    return {**jobs, REFUSED: replace(tp, layout=replace(tp.layout, tp=4, dp=1))}


def questions_of(name, job):
    """Return what `validate` asks, of large runs with fewer ranks that run a step."""
    stages, ranks = [], []
    for one in megatron_questions(job):
        (stages if one.question.topic is Topic.PARAMETERS else ranks).append(one)
    return stages + [ranks[place] for place in RANKS.get(name, range(len(ranks)))]


@pytest.fixture(scope="module")
def pairs(jobs):
    """Return for each case its questions with Megatron's answers, all from one process."""
    asked = {name: questions_of(name, job) for name, job in jobs.items()}
    every = [one for questions in asked.values() for one in questions]
    version, answers = conversation(MEGATRON, every, lambda *_: None)
    assert version == PINNED[MEGATRON]
    left = iter(answers)
    return {name: [(one, next(left)) for one in questions] for name, questions in asked.items()}


@pytest.fixture(scope="module")
def answers(jobs, pairs):
    return {name: engine_check.megatron_answer(jobs[name], "0.16.1", pairs[name]) for name in jobs}


@pytest.mark.parametrize("name", names(CASES, always=ALWAYS))
def test_megatron_answers_as_llmorch_computes(answers, name):
    wrong = [
        f"{finding.asked}: {finding.refused or finding.differences}"
        for finding in answers[name].findings
        if not finding.is_equal
    ]

    assert not wrong


@pytest.mark.parametrize("name", names(CASES, always=ALWAYS))
def test_a_step_is_recorded_wherever_one_can_be(answers, name):
    recorded = any(finding.asked.startswith("a step") for finding in answers[name].findings)

    assert recorded == (name not in WITHOUT_STEP)
    assert bool(answers[name].unasked) == (name in WITHOUT_STEP)


def test_llama_405b_has_the_parameters_of_the_published_checkpoint(pairs, jobs):
    held = [
        answer.held
        for asked, answer in pairs["405b-16384"]
        if asked.question.topic is Topic.PARAMETERS
    ]

    assert len(held) == 16
    whole = engine_check_compare.whole_model(
        jobs["405b-16384"].run, jobs["405b-16384"].layout, held
    )
    assert whole == 405_853_388_800


def judged(jobs, pairs, name, **changes):
    """Return how Megatron's answers to a case compare when some parts of each are others."""
    changed = [
        (asked, replace(answer, **{key: change(answer) for key, change in changes.items()}))
        for asked, answer in pairs[name]
    ]
    return engine_check.megatron_answer(jobs[name], "0.16.1", changed)


def test_a_group_that_differs_by_a_rank_is_found(jobs, pairs):
    wrong = judged(jobs, pairs, "1f1b", groups=lambda one: {**one.groups, "dp": [0, 3, 1, 2]})

    (finding,) = [one for one in wrong.findings if not one.is_equal]
    assert "process groups" in finding.asked
    assert "dp is [0 3 1 2], not [0 1 2 3]" in finding.differences[0]


def test_one_parameter_more_is_found(jobs, pairs):
    wrong = judged(
        *(jobs, pairs, "tp"),
        held=lambda one: one.held and replace(one.held, whole=one.held.whole + 1),
    )

    (finding,) = [one for one in wrong.findings if not one.is_equal]
    assert "parameters" in finding.asked
    assert len(finding.differences) == 2  # of the rank, and of the whole


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("a byte", lambda one: replace(one, payload_bytes=one.payload_bytes + 1)),
        ("a call", lambda one: replace(one, calls=one.calls + 1)),
        ("a kind", lambda one: replace(one, kind="broadcast")),
    ],
    ids=["byte", "call", "kind"],
)
@pytest.mark.parametrize("name", ["1f1b-tied", "interleaved", "zero-1"])
def test_a_collective_that_differs_is_found(jobs, pairs, name, what, change):
    wrong = judged(
        *(jobs, pairs, name),
        recorded=lambda one: one.recorded and (change(one.recorded[0]), *one.recorded[1:]),
    )

    (finding,) = [one for one in wrong.findings if not one.is_equal]
    assert "a step" in finding.asked, what
    assert wrong.error().exit_code is ExitCode.ENGINE_REFUSES
    assert "megatron-core 0.16.1 and llmorch do not agree:" in str(wrong.error())


def test_a_message_to_another_rank_is_found(jobs, pairs):
    wrong = judged(
        *(jobs, pairs, "1f1b-tied"),
        recorded=lambda one: tuple(
            replace(call, peer=call.peer + 1) if call.kind == "send" else call
            for call in one.recorded
        ),
    )

    assert any("send to rank" in text for one in wrong.findings for text in one.differences)


def test_a_refusal_is_told_in_megatrons_own_words(answers):
    error = answers[REFUSED].error()

    assert error.exit_code is ExitCode.ENGINE_REFUSES
    assert "megatron-core 0.16.1 refuses the configuration" in str(error)
    assert "num_attention_heads (6) must be a multiple of tensor_model_parallel_size (4)" in str(
        error
    )
