"""Llama 3 405B's batches and rates, step for step: planned, rendered, and walked by real Megatron.

A toy takes the place of the model, with a 256th of each batch; its worker is put before each
turning point and takes a step there.
"""

import json
from typing import Any

import pytest

from orchestrator import api

RUN = """
schema: 1
name: llama-3.1-405b
model: llama-3.1-405b
cluster: {card: dgx-h100, hosts: 128}
training:
  sequence_length: 8192
  global_batch_size: 2048
  tokens: 15_600_000_000_000
  precision: bf16
  batch_ramp:
    - {from_steps: 0, global_batch_size: 512}
    - {from_steps: 60, global_batch_size: 1024}
    - {from_tokens: 2_870_000_000_000, global_batch_size: 2048}
  optimizer: {learning_rate: 8.0e-5, min_learning_rate: 8.0e-7, warmup_steps: 8000, decay_steps: 1_200_000}
layout: {tp: 8, pp: 16, vpp: 8, micro_batch_size: 1, zero_stage: 1, sequence_parallel: true,
         schedule: interleaved-1f1b, stage_layout: "E|(t|)*126,L"}
engine: {name: megatron-core}
data: {prefix: nowhere}
checkpoint: {interval_steps: 1000}
"""  # noqa: E501
SCALE = 256
BATCHES = {1: 512, 60: 512, 61: 1024, 342_161: 1024, 342_162: 2048, 1_100_928: 2048}
RATES = {  # the step that comes after so many
    4_001: 4.0e-5,
    8_001: 8.0e-5,
    600_001: 4.0817e-5,
    1_100_929: 2.142e-6,
    1_200_001: 8.0e-7,
}
WALK = """
from launch.workers.megatron_core.checkpoint import Position
from launch.workers.megatron_core.loop import Loop

def walked(self, position, written, *, is_staged):
    schedule = self.trainer._schedule
    for step in {steps}:
        schedule.step(step - 1 - schedule.num_steps)
        samples = self.arguments.ramp().samples_after(step - 1)
        self._advance(Position(step=step - 1, consumed_samples=samples), written)

Loop._train = walked
"""


@pytest.fixture(scope="module")
def rendered() -> dict[str, Any]:
    """The training section of the worker's configuration of the real run."""
    plan = api.plan(api.read_run(RUN, file="405b")).plans[0]
    return json.loads(api.engine_named("megatron-core").render(plan).files[0].text)["training"]


@pytest.fixture(scope="module")
def steps(rendered, warm, gpt) -> dict[int, dict[str, Any]]:
    phases = [
        phase | {"global_batch_size": phase["global_batch_size"] // SCALE}
        for phase in rendered["batch_ramp"]
    ]
    training = {
        "global_batch_size": rendered["global_batch_size"] // SCALE,
        "batch_ramp": phases,
        "optimizer": rendered["optimizer"],
        "steps": rendered["steps"],
    }
    walk = WALK.format(steps=sorted({*BATCHES, *RATES}))
    run = warm.run(gpt(training=training), before=walk)
    return {line["step"]: line for line in run.lines() if line["kind"] == "step"}


def test_the_run_has_the_published_number_of_steps(rendered) -> None:
    assert rendered["steps"] == 60 + 342_101 + 758_767 == 1_100_928


def test_every_phase_begins_and_ends_at_the_published_step(steps) -> None:
    sequence_length = 32

    taken = {step: steps[step]["tokens"] // sequence_length * SCALE for step in BATCHES}

    assert taken == BATCHES


def test_the_rate_has_the_published_points(steps) -> None:
    assert {step: steps[step]["learning_rate"] for step in RATES} == pytest.approx(RATES, rel=2e-4)
