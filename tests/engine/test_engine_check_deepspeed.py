"""DeepSpeed's configuration class and its shares of states, asked through `--engine-check`."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator import api
from orchestrator.cli import engine_check
from orchestrator.cli.engine_check_conversation import PINNED, conversation
from orchestrator.cli.engine_check_questions import DEEPSPEED, Job, deepspeed_questions
from orchestrator.cost.share import held_parameters, shares_of
from orchestrator.cost.workload import workload_of
from orchestrator.engines.deepspeed.engine import CONFIG_FILE
from tests.engine.breadth import asked_for, names

ROOT = Path(__file__).parents[2]
DEADLINE_S = 250.0
COMMAND = "from orchestrator.cli.app import main; main()"
RUN = """
schema: 1
name: data-parallel
model: {model}
cluster: {{card: dgx-h200, gpus: {gpus}}}
training: {{sequence_length: 128, global_batch_size: {batch}, steps: 100, precision: bf16}}
layout: {{zero_stage: {stage}, micro_batch_size: 2}}
"""
ENGINE = "engine: {name: deepspeed, script: /opt/train.py}\n"
CASES = {
    f"{model}-{gpus}-zero-{stage}": (model, gpus, stage)
    for model, gpus, stage in (
        *(("tiny-gpt", 8, stage) for stage in (1, 2, 3)),
        *(("llama-2-7b", 1024, stage) for stage in (1, 2, 3)),
        ("tiny-gpt", 16384, 3),  # DeepSpeed takes 10 s of CPU over stages 1 and 2 there
    )
}

ALWAYS = [name for name in CASES if "16384" not in name]


def job_of(model, gpus, stage):
    text = RUN.format(model=model, gpus=gpus, batch=gpus * 6, stage=stage) + ENGINE
    engine = api.engine_named("deepspeed")
    run = api.read_run(text, file="run.yaml", capabilities=engine.capabilities())
    files = engine.render(api.plan(run).plans[0]).files
    (config,) = (file.text for file in files if file.path == CONFIG_FILE)
    return Job(run=run, layout=run.layout, config=config)


@pytest.fixture(scope="module")
def jobs(request):
    return {name: job_of(*CASES[name]) for name in asked_for(request, CASES, always=ALWAYS)}


@pytest.fixture(scope="module")
def pairs(jobs):
    """Return for each case its questions with DeepSpeed's answers, all from one process."""
    asked = {name: deepspeed_questions(job) for name, job in jobs.items()}
    every = [one for questions in asked.values() for one in questions]
    version, answers = conversation(DEEPSPEED, every, lambda *_: None)
    assert version == PINNED[DEEPSPEED]
    left = iter(answers)
    return {name: [(one, next(left)) for one in questions] for name, questions in asked.items()}


@pytest.mark.parametrize("name", names(CASES, always=ALWAYS))
def test_deepspeed_reads_our_blocks_and_shares_states_as_we_divide_them(jobs, pairs, name):
    answer = engine_check.deepspeed_answer(jobs[name], "0.19.8", pairs[name])
    wrong = [f"{one.asked}: {one.refused or one.differences}" for one in answer.findings]

    assert answer.is_equal, wrong
    assert len(answer.findings) == 2


@pytest.mark.parametrize("name", names(CASES, always=ALWAYS))
def test_a_share_is_what_the_memory_model_divides_and_padding(jobs, pairs, name):
    job = jobs[name]
    workload = workload_of(job.run)
    (share,) = shares_of(workload.shape, job.layout)
    held = held_parameters(workload, job.layout, share).total
    tensors = pairs[name][0][0].question.tensors

    assert sum(tensors) == held
    for _, answer in pairs[name][1:]:
        kept = answer.partition["optimizer"]
        assert held / job.layout.zero_domain <= kept
        assert kept - held / job.layout.zero_domain <= 2 + len(tensors)


@pytest.mark.parametrize("key", ["world", "microbatches", "batch", "stage"])
def test_a_setting_that_deepspeed_reads_otherwise_is_found(jobs, pairs, key):
    (asked, config), *rest = pairs["tiny-gpt-8-zero-2"]
    wrong = replace(config, partition={**config.partition, key: config.partition[key] + 1})
    answer = engine_check.deepspeed_answer(
        jobs["tiny-gpt-8-zero-2"], "0.19.8", [(asked, wrong), *rest]
    )

    assert not answer.is_equal
    assert key in str(answer.error())


@pytest.mark.parametrize("key", ["optimizer", "gradients"])
def test_a_share_that_differs_by_an_element_is_found(jobs, pairs, key):
    first, (asked, kept) = pairs["llama-2-7b-1024-zero-2"]
    wrong = replace(kept, partition={**kept.partition, key: kept.partition[key] + 1})
    answer = engine_check.deepspeed_answer(
        jobs["llama-2-7b-1024-zero-2"], "0.19.8", [first, (asked, wrong)]
    )

    assert not answer.is_equal
    assert f"elements of {key}" in str(answer.error())


def test_validate_asks_both_engines_about_data_parallelism(tmp_path):
    run_file = tmp_path / "run.yaml"
    run_file.write_text(RUN.format(model="tiny-gpt", gpus=8, batch=48, stage=1))
    ended = subprocess.run(
        [sys.executable, "-c", COMMAND, "validate", str(run_file), "--engine-check", "--json"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr
    megatron, deepspeed = json.loads(ended.stdout)["engine_check"]
    assert (megatron["engine"], megatron["version"]) == ("megatron-core", "0.16.1")
    assert (deepspeed["engine"], deepspeed["version"]) == ("deepspeed", "0.19.8")
    for answer in (megatron, deepspeed):
        assert answer["equal"], answer
        assert set(answer) == {"engine", "version", "equal", "asked", "not_asked"}
        for asked in answer["asked"]:
            assert set(asked) == {"what", "equal", "refused", "differences", "seconds"}
