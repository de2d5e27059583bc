"""Kernels compiled where numba is there, and compiled anew where nothing can be kept."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from orchestrator.schedules import fast, simulate
from orchestrator.schedules.cycles import one_f_one_b_makespan_ns, one_f_one_b_makespans_ns
from orchestrator.schedules.schedule import build
from orchestrator.schedules.simulate import FAST_FROM_STEPS, Timeline
from orchestrator.schedules.times import StageTimes
from orchestrator.specs.choices import ScheduleKind


def test_where_machine_code_cannot_be_kept_it_is_compiled_all_the_same(monkeypatch):
    def njit(**said: bool):
        if said.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return lambda kernel: ("compiled", kernel)

    monkeypatch.setitem(sys.modules, "numba", SimpleNamespace(njit=njit))

    assert fast.compiled.__wrapped__(max) == ("compiled", max)


@pytest.mark.parametrize("is_fast", [True, False])
def test_large_schedules_end_alike_with_and_without_numba(monkeypatch, is_fast):
    if is_fast:
        pytest.importorskip("numba")
    monkeypatch.setattr(fast, "is_available", lambda: is_fast)
    schedule = build(
        ScheduleKind.INTERLEAVED, pp=8, vpp=4, num_microbatches=320, microbatch_group_size=8
    )
    assert schedule.num_actions > FAST_FROM_STEPS

    answer = simulate.simulate(
        schedule, times=StageTimes.uniform(num_stages=32, forward_ns=10, backward_ns=20)
    )

    assert isinstance(answer, Timeline)
    assert answer.makespan_ns == (320 * 4 + 7) * 30


@pytest.mark.parametrize("is_fast", [True, False])
def test_many_candidates_are_priced_as_one_by_one(monkeypatch, is_fast):
    if is_fast:
        pytest.importorskip("numba")
    monkeypatch.setattr(fast, "is_available", lambda: is_fast)
    chance = np.random.default_rng(3)
    forward, backward = chance.integers(5, 50, (20, 4)), chance.integers(5, 90, (20, 4))

    found = one_f_one_b_makespans_ns(forward, backward, latency_ns=3, num_microbatches=40)

    expected = [
        one_f_one_b_makespan_ns(
            StageTimes(
                forward_ns=tuple(row.tolist()), backward_ns=tuple(other.tolist()), latency_ns=3
            ),
            num_microbatches=40,
        )
        for row, other in zip(forward, backward, strict=True)
    ]
    assert found.tolist() == expected
