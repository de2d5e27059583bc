"""Whatever the layout, the same training: losses equal those of one rank.

Every layout resumes from one checkpoint of a one-rank run, and its next ten losses are compared
with the ones that run went on to have. The weights are thereby the same at the start, which a seed
alone does not give: pipeline stages draw their own random numbers.
"""

from typing import Any

import pytest

FIRST_STEP = 2
LAST_STEP = 12

GPT_LAYOUTS = {
    "tp2-pp2": (4, {"parallel": {"tp": 2, "pp": 2}}),
    "pp2-vpp2": (2, {"parallel": {"pp": 2, "vpp": 2}}),
    "dp2-distributed-optimizer": (2, {}),
}
LLAMA_LAYOUTS = {
    "tp2": (2, {"parallel": {"tp": 2}}),
    "pp2-full-recompute": (2, {"parallel": {"pp": 2}, "recompute": {"granularity": "full"}}),
    "dp2": (2, {}),
    "tp2-sequence-parallel": (2, {"parallel": {"tp": 2, "sequence_parallel": True}}),
}


@pytest.fixture(scope="module")
def llama_reference(shared_launcher, llama) -> Any:
    """One rank, every rank keeps the optimizer state."""
    return shared_launcher.start(llama(parallel={"zero_stage": 0})).finish()


@pytest.mark.parametrize(("ranks", "layout"), GPT_LAYOUTS.values(), ids=GPT_LAYOUTS)
def test_a_gpt_trains_as_on_one_rank(launcher, gpt, one_rank_gpt, ranks, layout) -> None:
    run = launcher.start(
        gpt(**layout), ranks=ranks, resume_from=one_rank_gpt.checkpoint(FIRST_STEP)
    ).finish()

    assert run.losses() == pytest.approx(after_first(one_rank_gpt), abs=1e-5, rel=0)


@pytest.mark.parametrize(("ranks", "layout"), LLAMA_LAYOUTS.values(), ids=LLAMA_LAYOUTS)
def test_a_llama_trains_as_on_one_rank(launcher, llama, llama_reference, ranks, layout) -> None:
    config = llama(**layout)
    config["parallel"]["zero_stage"] = 0

    run = launcher.start(
        config, ranks=ranks, resume_from=llama_reference.checkpoint(FIRST_STEP)
    ).finish()

    assert run.losses() == pytest.approx(after_first(llama_reference), abs=1e-5, rel=0)


def after_first(reference) -> dict[int, float]:
    losses = reference.losses()
    return {step: losses[step] for step in range(FIRST_STEP + 1, LAST_STEP + 1)}
