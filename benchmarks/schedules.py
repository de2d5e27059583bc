"""How fast schedules are made and simulated: medians and spreads of repeated trials.

Run from the checkout:  .venv/bin/python benchmarks/schedules.py [TRIALS]
"""

import platform
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib import metadata
from unittest import mock

import numpy as np

from orchestrator.schedules import closed_forms, fast
from orchestrator.schedules.cycles import one_f_one_b_makespan_ns, one_f_one_b_makespans_ns
from orchestrator.schedules.schedule import build
from orchestrator.schedules.simulate import Timeline, simulate
from orchestrator.schedules.times import StageTimes
from orchestrator.specs.choices import ScheduleKind

PP, VPP, MICROBATCHES = 16, 8, 1024
FAST_CANDIDATES, PLAIN_CANDIDATES = 2_000, 40
CALLS = 20_000
MS, US = 1e3, 1e6
DECIMALS_BELOW = 100


def main() -> None:
    """Print every figure with its target."""
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    versions = f"Python {platform.python_version()}, numpy {metadata.version('numpy')}"
    print(f"{platform.machine()}, {versions}, numba {_numba()}, {trials} trials each\n")
    print(f"{'figure':<62} {'median':>12} {'least':>12} {'most':>12}  target")
    whole_steps(trials)
    candidates(trials)
    formulas(trials)


def whole_steps(trials: int) -> None:
    """Make and simulate 262,144 actions, with numba and without."""
    num_actions = 2 * PP * VPP * MICROBATCHES
    label = f"interleaved p {PP}, m {MICROBATCHES}, v {VPP}"
    if fast.is_available():
        one_step()  # compiles
        row(f"{label}, numba: ms", [MS * timed(one_step) for _ in range(trials)], "<= 20")
    with mock.patch.object(fast, "is_available", return_value=False):
        plain = [US * timed(one_step) / num_actions for _ in range(trials)]
    row(f"{label}, plain: us an action", plain, "<= 1")


def one_step() -> None:
    """Make and simulate one step from nothing."""
    schedule = build(
        ScheduleKind.INTERLEAVED,
        pp=PP,
        vpp=VPP,
        num_microbatches=MICROBATCHES,
        microbatch_group_size=PP,
    )
    times = StageTimes.uniform(
        num_stages=PP * VPP, forward_ns=1_000_000, backward_ns=2_000_000, latency_ns=10_000
    )
    assert isinstance(simulate(schedule, times=times), Timeline)  # noqa: S101


def candidates(trials: int) -> None:
    """Price 1F1B layouts of unequal stages: the planner's inner loop."""
    chance = np.random.default_rng(0)
    for name, spread in (("stages within 10 %", 0.1), ("within 0.1 %, nearly tied", 0.001)):
        forward = noisy(chance, 1_000_000, spread)
        backward = noisy(chance, 2_000_000, spread)
        label = f"1F1B p {PP}, m {MICROBATCHES}, {name}"
        if fast.is_available():
            fast_s = partial(timed, partial(many, forward, backward))
            fast_s()  # compiles
            rates = [FAST_CANDIDATES / fast_s() for _ in range(trials)]
            row(f"{label}, numba: a second", rates, ">= 10,000")
        plain_s = partial(timed, partial(one_by_one, forward, backward))
        rates = [PLAIN_CANDIDATES / plain_s() for _ in range(trials)]
        row(f"{label}, plain: a second", rates, ">= 250")


def noisy(chance: np.random.Generator, mean_ns: int, spread: float) -> np.ndarray:
    """Return stage times around a mean, one row a candidate."""
    low, high = round(mean_ns * (1 - spread)), round(mean_ns * (1 + spread))
    return chance.integers(low, high, (FAST_CANDIDATES, PP))


def many(forward: np.ndarray, backward: np.ndarray) -> None:
    """Price all candidates in one call."""
    one_f_one_b_makespans_ns(forward, backward, latency_ns=10_000, num_microbatches=MICROBATCHES)


def one_by_one(forward: np.ndarray, backward: np.ndarray) -> None:
    """Price some candidates by plain Python."""
    for number in range(PLAIN_CANDIDATES):
        times = StageTimes(
            forward_ns=tuple(forward[number].tolist()),
            backward_ns=tuple(backward[number].tolist()),
            latency_ns=10_000,
        )
        one_f_one_b_makespan_ns(times, num_microbatches=MICROBATCHES)


def formulas(trials: int) -> None:
    """Ask the closed forms, as the planner does for every layout."""

    def bubbles() -> None:
        for _ in range(CALLS):
            closed_forms.bubble_fraction(
                ScheduleKind.INTERLEAVED, pp=16, vpp=8, num_microbatches=64
            )

    def peaks() -> None:
        for _ in range(CALLS):
            closed_forms.peak_in_flight(
                ScheduleKind.INTERLEAVED,
                pp=16,
                vpp=8,
                num_microbatches=64,
                microbatch_group_size=16,
                rank=3,
            )

    row(
        "closed form, bubble fraction: us", [US * timed(bubbles) / CALLS for _ in range(trials)], ""
    )
    row("closed form, peak in flight: us", [US * timed(peaks) / CALLS for _ in range(trials)], "")


def timed(work: Callable[[], None]) -> float:
    """Return the seconds that work takes."""
    began_s = time.perf_counter()
    work()
    return time.perf_counter() - began_s


def row(label: str, values: list[float], target: str) -> None:
    """Print the median, the least and the most of some trials."""
    figures = (statistics.median(values), min(values), max(values))
    numbers = " ".join(
        f"{figure:12,.3g}" if figure < DECIMALS_BELOW else f"{figure:12,.0f}" for figure in figures
    )
    print(f"{label:<62} {numbers}  {target}")


def _numba() -> str:
    return metadata.version("numba") if fast.is_available() else "absent"


if __name__ == "__main__":
    main()
