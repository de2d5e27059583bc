"""Step time, TFLOP/s, MFU and peak memory of a 1B Llama on one GPU, predicted against measured.

Never run so far: there was no GPU. It is type-checked, and the worker it starts is the one that the
tests run on CPUs; what it would show first is whether FP8 trains at all.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from orchestrator import api
from orchestrator.records.plan import Plan

ROOT = Path(__file__).parents[1]
STEPS, WARM_UP = 40, 10
RUN = """\
schema: 1
name: worker-gpu
model: llama-3.2-1b
cluster: {{card: dgx-h100, gpus: 1}}
training: {{sequence_length: 4096, global_batch_size: 16, steps: {steps}, precision: {precision}}}
layout: {{micro_batch_size: 2, zero_stage: 1}}
data:
  prefix: {folder}/corpus
  corpus: {{source: python-stdlib, limit_bytes: 20_000_000}}
checkpoint: {{interval_steps: {steps}}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What the steps after the warm-up took, and the plan that foretold it."""

    plan: Plan
    step_s: float
    peak_bytes: int
    losses: tuple[float, ...]


def measure() -> None:
    """Print the table for BF16 and FP8."""
    print("| precision | | predicted | measured | measured / predicted |\n|---|---|---:|---:|---:|")
    for precision in ("bf16", "fp8"):
        found = train(precision)
        flop_per_s = found.plan.model_flop_per_step / found.step_s
        peak = found.plan.mfu and found.plan.model_flop_per_s_per_gpu / found.plan.mfu
        rows = (
            ("step, s", found.plan.step_time_s, found.step_s),
            ("TFLOP/s", found.plan.model_flop_per_s_per_gpu / 1e12, flop_per_s / 1e12),
            ("MFU", found.plan.mfu, flop_per_s / peak),
            ("peak memory, GiB", found.plan.memory.total_bytes / 2**30, found.peak_bytes / 2**30),
        )
        for name, predicted, measured in rows:
            ratio = measured / predicted
            print(f"| {precision} | {name} | {predicted:.3f} | {measured:.3f} | {ratio:.2f} |")


def train(precision: str) -> Measured:
    """Train some steps with the real worker on this machine's GPU."""
    with tempfile.TemporaryDirectory() as folder:
        text = RUN.format(steps=STEPS, precision=precision, folder=folder)
        plan = api.plan(api.read_run(text, file="worker_gpu")).plans[0]
        bundle = api.engine_named("megatron-core").render(plan)
        config = Path(folder) / "config.json"
        config.write_text(bundle.files[0].text)
        worker = ("-c", "from launch.workers.data.main import main; main()")
        corpus = ("--prefix", f"{folder}/corpus", "--limit-bytes", "20000000")
        subprocess.run([sys.executable, *worker, *corpus], check=True, env=environment())
        steps = step_lines(config, dict(bundle.env))
    late = [line for line in steps if line["step"] > WARM_UP]
    return Measured(
        plan=plan,
        step_s=statistics.median(line["duration_s"] for line in late),
        peak_bytes=max(line["memory_bytes"] for line in steps),
        losses=tuple(line["loss"] for line in steps),
    )


def step_lines(config: Path, env: dict[str, str]) -> list[dict]:
    """The lines of one rank's steps."""
    reading, writing = os.pipe()
    words = ("-c", "from launch.workers.megatron_core.main import main; main()")
    process = subprocess.Popen(
        [sys.executable, *words, "--config", str(config)],
        env=environment(**env, LLMORCH_RANK_FD=str(writing)),
        pass_fds=[writing],
    )
    os.close(writing)
    with os.fdopen(reading) as pipe:
        lines = [json.loads(line) for line in pipe]
    if process.wait() != 0:
        msg = f"the worker ended with {process.returncode}"
        raise RuntimeError(msg)
    return [line for line in lines if line["kind"] == "step"]


def environment(**own: str) -> dict[str, str]:
    """What the worker sees."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **own}


if __name__ == "__main__":
    measure()
