"""What llmorch counts for experts is what four real ranks of Megatron-Core exchange, over gloo.

Routing depends on values, so this is no dry run; it is balanced, as our count assumes.
"""

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from launch.workers.closed_json import read_object
from launch.workers.engine_check.questions import Recorded, Topic
from orchestrator import api
from orchestrator.cli import engine_check_compare
from orchestrator.cli.engine_check_questions import Job, asked_about
from orchestrator.cost.collective import Axis, Kind
from orchestrator.cost.traffic import traffic_of

PROGRAM = Path(__file__).with_name("expert_ranks.py")
DEADLINE_S = 200.0
NUM_RANKS = 4

MODEL = (
    "{name: toy, source: [ours], retrieved: 2026-01-01, num_layers: 4, max_sequence_length: 64, "
    "num_attention_heads: 4, num_query_groups: 2, vocab_size: 500, hidden_size: 40, "
    "ffn_hidden_size: 96, head_dim: 10, gated_mlp: true, activation: silu, "
    "normalization: RMSNorm, position_embedding: rope, rotary_base: 10000, "
    "tied_embeddings: false, qkv_bias: false, linear_bias: false, "
    "moe: {num_experts: 8, router_topk: 2, moe_ffn_hidden_size: 24, router_dtype: %s, "
    "shared_expert_intermediate_size: %d, layer_pattern: '[0,1]'}}"
)
FP32, SHARED = MODEL % ("fp32", 0), MODEL % ("bf16", 56)
AUX = FP32.replace("moe: {", "moe: {aux_loss_coeff: 0.01, load_balancing: aux_loss, ")
SEQ_AUX = SHARED.replace(
    "moe: {",
    "moe: {aux_loss_coeff: 0.01, load_balancing: seq_aux_loss, score_function: sigmoid, "
    "expert_bias: true, ",
)
SP = "sequence_parallel: true"
CASES = {
    "ep-4": (FP32, "ep: 4"),
    "ep-2-with-tp": (FP32, f"tp: 2, ep: 2, etp: 1, {SP}"),
    "ep-2-with-etp": (SHARED, f"tp: 2, ep: 2, etp: 2, {SP}"),
    "ep-2-with-pp": (SHARED, "pp: 2, ep: 2, zero_stage: 0"),
    "etp-without-ep": (FP32, f"tp: 2, ep: 1, etp: 2, {SP}"),
    "a-stage-without-experts": (FP32.replace("'[0,1]'", "'[0,0,1,1]'"), "pp: 2, ep: 2"),
    "a-stage-without-experts-zero-0": (
        *(FP32.replace("'[0,1]'", "'[0,0,1,1]'"),),
        "pp: 2, ep: 2, zero_stage: 0",
    ),
    "auxiliary-loss": (AUX, f"tp: 2, ep: 2, etp: 1, {SP}"),
    "auxiliary-loss-recomputed": (AUX, f"tp: 2, ep: 2, {SP}, recompute: {{granularity: full}}"),
    "loss-of-a-sequence-and-bias": (SEQ_AUX, f"tp: 2, ep: 2, {SP}, micro_batch_size: 2"),
    "overlapped": (SHARED, "ep: 2, overlap: [dp]"),
    "recomputed": (
        *(SHARED,),
        "ep: 2, recompute: {granularity: selective, modules: [moe]}",
    ),
}


def job_of(name):
    model, layout = CASES[name]
    text = f"""
schema: 1
name: {name}
model: {model}
cluster: {{card: dgx-h100, gpus: {NUM_RANKS}}}
training: {{sequence_length: 32, global_batch_size: 8, steps: 1000, precision: bf16}}
layout: {{{layout}}}
"""
    run = api.read_run(text, file=name)
    return Job(run=run, layout=run.layout)


@pytest.fixture(scope="module")
def jobs():
    return {name: job_of(name) for name in CASES}


@pytest.fixture(scope="module")
def recorded(jobs, tmp_path_factory, worker_environment):
    """Return what each rank of each case called, all from one process and its four forks."""
    folder = tmp_path_factory.mktemp("experts")
    lines = [
        json.dumps([asdict(asked_about(job, Topic.STEP, rank).question) for job in jobs.values()])
        for rank in range(NUM_RANKS)
    ]
    ended = subprocess.run(
        [sys.executable, str(PROGRAM), str(folder)],
        input="\n".join(lines),
        env=worker_environment(),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    answers = [json.loads((folder / str(rank)).read_text()) for rank in range(NUM_RANKS)]
    return {
        name: [[read_object(Recorded, call) for call in rank[place]] for rank in answers]
        for place, name in enumerate(CASES)
    }


@pytest.mark.parametrize("name", CASES)
def test_four_ranks_exchange_what_llmorch_counts(jobs, recorded, name):
    job = jobs[name]
    for rank, calls in enumerate(recorded[name]):
        asked = asked_about(job, Topic.STEP, rank)

        assert list(engine_check_compare.call_differences(job.run, asked, calls)) == []


def test_experts_exchange_their_rows_over_ep(jobs, recorded):
    rows = 32 * 2  # tokens of a microbatch, two experts each
    exchanged = [one for one in recorded["ep-4"][0] if one.kind == "all-to-all"]

    # Two layers of experts, two microbatches; out and back, forward and backward.
    assert {(one.payload_bytes, one.calls, one.group) for one in exchanged} == {
        (rows * 40 * 2, 4 * 2 * 2, (0, 1, 2, 3)),
        (rows * 4, 2 * 2 * 2, (0, 1, 2, 3)),
    }


def test_a_wrong_count_of_rows_is_found(jobs, recorded):
    job = jobs["ep-4"]
    wrong = [
        replace(one, payload_bytes=one.payload_bytes + 80) if one.kind == "all-to-all" else one
        for one in recorded["ep-4"][0]
    ]
    asked = asked_about(job, Topic.STEP, 0)

    assert any(
        "all-to-all" in text
        for text in engine_check_compare.call_differences(job.run, asked, wrong)
    )


def test_a_run_counts_experts_on_the_axis_that_exchanges_them(jobs):
    job = jobs["ep-2-with-etp"]
    traffic = traffic_of(job.run, job.layout, pp_rank=0)

    assert {one.kind for one in traffic.of(Axis.EP)} == {Kind.ALL_TO_ALL}
    assert {one.kind for one in traffic.of(Axis.ETP)} == {Kind.ALL_GATHER, Kind.REDUCE_SCATTER}
