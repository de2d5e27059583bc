"""What our training loop costs over Megatron's bare one, in CPU-seconds per step.

    .venv/bin/python benchmarks/worker_overhead.py             writes worker_overhead.md beside it
    .venv/bin/python benchmarks/worker_overhead.py --gpu       measures a 1B Llama on one GPU

Two processes hold the same model, one runs steps through the worker's loop (marks, step lines,
log lines, memory, checks of tokens and losses), the other through as little as trains at all:
Megatron's schedule, optimizer and scheduler over torch's DataLoader. They take turns, a few steps
each, on one core, and each turn is a trial; CPU-seconds are those of the process alone.

Whatever else the machine does shows in them all the same, and is larger than what is looked for.
But nearly all of a step is the engine's, the same calls in both loops. So each process also says
what it used outside of them: the difference of these two small numbers is what our loop adds, and
noise in the engine's part is not in it. The part with --gpu has never been run.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from math import comb
from pathlib import Path

from orchestrator import api

ROOT = Path(__file__).parents[1]
RESULT = Path(__file__).with_suffix(".md")
GOAL = 0.02
STEPS_OF_A_TRIAL = 2  # as in worker_trials.py


def main() -> None:
    """Measure, print, and keep what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=120)
    parser.add_argument("--gpu", action="store_true", help="a 1B Llama, BF16 and FP8, on one GPU")
    given = parser.parse_args()
    if given.gpu:
        subprocess.run([sys.executable, Path(__file__).with_name("worker_gpu.py")], check=True)
    else:
        RESULT.write_text(report(measure_pairs(given.trials)))
        sys.stdout.write(RESULT.read_text())


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """CPU-seconds per step: all of them, and those outside the engine."""

    all_s: float
    own_s: float


def measure_pairs(trials: int) -> list[tuple[Trial, Trial]]:
    """The bare loop and ours, in turns; who begins alternates."""
    with tempfile.TemporaryDirectory() as folder:
        config = write_config(Path(folder))
        servers = {name: start(name, config) for name in ("bare", "ours")}
        pairs = []
        for trial in range(trials + 1):
            order = ("bare", "ours") if trial % 2 else ("ours", "bare")
            found = {name: ask(servers[name]) for name in order}
            pairs.append((found["bare"], found["ours"]))
        for server in servers.values():
            server.communicate(timeout=60)
    return pairs[1:]  # the first warms both up


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """The middle of some values, where it lies with 95 % certainty, and their quartiles."""

    middle: float
    low: float
    high: float
    quarters: tuple[float, float]

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """Of values in any order."""
        ordered = sorted(values)
        low, high = median_interval(ordered)
        first, _, third = statistics.quantiles(ordered, n=4)
        return cls(middle=statistics.median(ordered), low=low, high=high, quarters=(first, third))


def row(name: str, spread: Spread, form: str) -> str:
    """A line of the table."""
    numbers = (spread.middle, spread.low, spread.high, *spread.quarters)
    middle, low, high, first, third = (format(number, form) for number in numbers)
    return f"| {name} | {middle} | {low} to {high} | {first} to {third} |"


def report(pairs: list[tuple[Trial, Trial]]) -> str:
    """The result as a page."""
    added = Spread.of((ours.own_s - bare.own_s) / bare.all_s for bare, ours in pairs)
    whole = Spread.of(ours.all_s / bare.all_s - 1 for bare, ours in pairs)
    engines = Spread.of(
        (ours.all_s - ours.own_s) / (bare.all_s - bare.own_s) - 1 for bare, ours in pairs
    )
    verdict = "met" if added.high <= GOAL else "missed" if added.low > GOAL else "not decided"
    rows = "\n".join(
        [
            row("a step of the bare loop, CPU-ms", _in_ms(b.all_s for b, _ in pairs), ".1f"),
            row("of that outside the engine, CPU-ms", _in_ms(b.own_s for b, _ in pairs), ".2f"),
            row("outside the engine in ours, CPU-ms", _in_ms(o.own_s for _, o in pairs), ".2f"),
            row("**what ours adds, of a bare step**", added, "+.2%"),
            row("whole steps compared, ours over bare", whole, "+.2%"),
            row("the engine's part alone, ours over bare", engines, "+.2%"),
        ]
    )
    return f"""# What the worker's loop costs

Our loop adds **{added.middle:+.2%}** to the CPU-seconds of a step of the bare Megatron loop
(95 % sure: {added.low:+.2%} to {added.high:+.2%}). The goal is at most {GOAL:.0%}: **{verdict}**.

{len(pairs)} interleaved pairs of {STEPS_OF_A_TRIAL} steps, both processes on one core:

| | middle | 95 % sure | quartiles |
|---|---:|---:|---:|
{rows}

What ours adds is measured apart: what runs outside the engine's calls (forward, backward,
optimizer, schedule, collectives: the same in both loops) is timed in both processes, and the two
are subtracted. Whole steps compare with the noise of all else that the machine does (its load was
{os.getloadavg()[0]:.0f} at the end). That noise is in the engine's part, which is the same code on
both sides: the last row shows how far it reaches.

Made by `benchmarks/worker_overhead.py` on {os.cpu_count()} CPUs ({platform.machine()}), Python
{platform.python_version()}; tiny-gpt, one rank, FP32, 16 sequences of 128 tokens a step.

## On a GPU

`benchmarks/worker_overhead.py --gpu` sets step time, TFLOP/s, MFU and peak memory of a 1B Llama
in BF16 and FP8, predicted against measured. **It has never been run**: no GPU was at hand. Until
it has, FP8 is unproven and every figure for a GPU is modelled.
"""


def _in_ms(seconds: Iterable[float]) -> Spread:
    return Spread.of(1e3 * one for one in seconds)


def median_interval(ordered: list[float]) -> tuple[float, float]:
    """Where the median of all such runs lies with 95 % certainty, whatever their distribution.

    The k-th values from both ends, with the largest k for which fewer than k of n fair coins show
    heads in at most 2.5 % of throws.
    """
    n, k, tail = len(ordered), 0, 0.0
    while (tail := tail + comb(n, k) / 2**n) <= 0.025:  # noqa: PLR2004 - half of 5 %
        k += 1
    return ordered[max(0, k - 1)], ordered[min(n - 1, n - k)]


def start(name: str, config: Path) -> "subprocess.Popen[str]":
    """A process that runs a trial for each line it is sent."""
    words = [sys.executable, Path(__file__).with_name("worker_trials.py"), name, config]
    return subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )


def ask(server: "subprocess.Popen[str]") -> Trial:
    """One trial."""
    assert server.stdin is not None  # noqa: S101 - we made the pipes
    assert server.stdout is not None  # noqa: S101
    server.stdin.write("trial\n")
    server.stdin.flush()
    for line in server.stdout:
        if line.startswith("cpu_s "):
            _, all_s, own_s = line.split()
            return Trial(all_s=float(all_s), own_s=float(own_s))
    msg = f"the process ended with {server.wait()}"
    raise RuntimeError(msg)


def write_config(folder: Path) -> Path:
    """The worker's arguments for the example's tiny-gpt on one rank, with a corpus of 2 MB."""
    text = (ROOT / "parallel_configs/tiny-gpt.local-x4.yaml").read_text()
    text = text.replace("gpus: 4", "gpus: 1").replace("tp: 2, pp: 2, ", "")
    text = text.replace("prefix: data/python-stdlib", f"prefix: {folder}/corpus")
    plan = api.plan(api.read_run(text, file="benchmark")).plans[0]
    config = json.loads(api.engine_named("megatron-core").render(plan).files[0].text)
    config["training"]["steps"] = 100_000
    config["checkpoint"]["interval_steps"] = 100_000
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    worker = (sys.executable, "-c", "from launch.workers.data.main import main; main()")
    words = (*worker, "--prefix", f"{folder}/corpus", "--limit-bytes", "2000000")
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    return path


if __name__ == "__main__":
    main()
