"""What only a GPU can show; never run so far, as there was none. `pytest -m gpu` on one runs it."""

import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("precision", ["bf16", "fp8"])
def test_a_1b_llama_learns_about_as_fast_as_was_predicted(monkeypatch, precision) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    sys.modules.pop("worker_gpu", None)
    from worker_gpu import train

    found = train(precision)

    assert found.losses[-1] < found.losses[0] - 1
    assert found.step_s == pytest.approx(found.plan.step_time_s, rel=0.5)
    assert found.peak_bytes == pytest.approx(found.plan.memory.total_bytes, rel=0.3)
