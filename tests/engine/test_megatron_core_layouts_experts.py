"""Whatever the layout of a model with experts, the same training as on one rank.

The auxiliary loss takes part. Megatron weighs a microbatch as a whole (tokens per expert are summed
over tp and cp), so `aux_loss` is the same in every layout that keeps the micro batch size, and
`seq_aux_loss`, which weighs each sequence, in every layout. Rounding alone differs, until two
experts score so alike that it decides between them: the toys are drawn until no choice is so close.
"""

import math
from pathlib import Path
from typing import Any

import pytest

from tests.engine.breadth import cases
from tests.engine.routing_margin import RECORD
from tests.engine.sameness import HALF_WAY, Reference, config, off

# Without AVX, and else all alike, thirty steps of twelve toys moved no score by more than 2.5e-6
# (2026-11-25, torch 2.13.0 on one rank), so two scores by at most twice that towards each other.
CLEAR = 1e-5
MOST_SEEDS = 12  # of the six with softmax, four had no choice closer than that

MOE: dict[str, Any] = {
    "num_experts": 4,
    "router_topk": 2,
    "ffn_hidden_size": 96,
    "shared_expert_ffn_hidden_size": 32,
    "layers": [0, 1, 0, 1],
    "router_dtype": "fp32",
    "router_score": "softmax",
    "load_balancing": "aux_loss",
    "aux_loss_coeff": 0.01,
    "expert_bias_update_rate": None,
    "num_groups": None,
    "group_topk": None,
    "topk_scaling_factor": None,
    "apply_probs_on_input": False,
}
DEEPSEEK = {
    **MOE,
    "layers": [0, 1, 1, 1],
    "shared_expert_ffn_hidden_size": None,
    "router_score": "sigmoid",
    "load_balancing": "seq_aux_loss",
    "expert_bias_update_rate": 1e-3,
    "num_groups": 2,
    "group_topk": 1,
    "topk_scaling_factor": 1.5,
}

LAYOUTS = {
    "dp2": (2, {}),
    "ep2": (2, {"ep": 2}),
    "ep2-allgather": (2, {"ep": 2, "token_dispatcher": "allgather"}),
    "ep2-zero0": (2, {"ep": 2, "zero_stage": 0}),
    "ep2-overlapped": (2, {"ep": 2, "overlap": ["dp"]}),
    "tp2-sp-etp2": (2, {"tp": 2, "etp": 2, "sequence_parallel": True}),
    "tp2-sp-ep2-etp1": (2, {"tp": 2, "ep": 2, "sequence_parallel": True}),
    "tp2-sp-ep2-etp2": (4, {"tp": 2, "ep": 2, "etp": 2, "sequence_parallel": True}),
    "cp2-ep2": (2, {"cp": 2, "ep": 2}),
}
ALWAYS = ("ep2-allgather", "ep2-overlapped", "tp2-sp-ep2-etp2", "cp2-ep2")
DEEPSEEK_LAYOUTS = {
    "ep4": (4, {"ep": 4}),
    "ep2-dp4-overlapped": (4, {"ep": 2, "overlap": ["dp"]}),
    "cp2-ep2": (4, {"cp": 2, "ep": 2}),
    "pp2-ep2": (4, {"pp": 2, "ep": 2}),
    "pp2-ep2-uneven": (4, {"pp": 2, "ep": 2, "stage_layout": "Et|tttL"}),
    "pp2-tp2-sp-ep2": (4, {"pp": 2, "tp": 2, "ep": 2, "sequence_parallel": True}),
}

DEEPSEEK_ALWAYS = ("pp2-ep2-uneven", "pp2-tp2-sp-ep2")


@pytest.fixture(scope="module")
def experts(warm, llama, tmp_path_factory) -> Reference:
    """Dense and expert layers in turn, a shared expert, an auxiliary loss on microbatches."""
    return decided(warm, llama, {"moe": MOE, "init_std": 0.05}, tmp_path_factory.mktemp("experts"))


@pytest.fixture(scope="module")
def deepseek(warm, llama, tmp_path_factory) -> Reference:
    """A dense layer first, sigmoid scores in groups, expert biases, a loss on each sequence."""
    model = {"moe": DEEPSEEK, "init_std": 0.1}
    return decided(warm, llama, model, tmp_path_factory.mktemp("deepseek"))


def decided(warm, make, model, folder: Path) -> Reference:
    """The first toy in thirty steps of which no choice of an expert was a near tie."""
    margins: list[float] = []
    for seed in range(1, MOST_SEEDS + 1):
        kept = folder / f"seed-{seed}"
        made = with_experts(make, model, {"sequence_length": 16, "seed": seed})
        reference = Reference.of(warm, made, before=RECORD(str(kept)))
        margins.append(float(kept.read_text()))
        if margins[-1] >= CLEAR:
            return reference
    raise AssertionError(f"all toys come near a tie: {margins}; make them smaller")


def with_experts(make, model, training):
    def made(**changes: Any) -> dict[str, Any]:
        own = {part: changes.pop(part, {}) for part in ("model", "training")}
        return make(model=model | own["model"], training=training | own["training"], **changes)

    return made


@pytest.mark.parametrize(("ranks", "parallel"), cases(LAYOUTS, always=ALWAYS))
def test_experts_train_as_on_one_rank(experts, ranks, parallel) -> None:
    run = experts.repeated(ranks, {"parallel": parallel})

    assert off(run, experts.losses()) == {}


@pytest.mark.parametrize(("ranks", "parallel"), cases(DEEPSEEK_LAYOUTS, always=DEEPSEEK_ALWAYS))
def test_routing_by_groups_and_biases_is_as_on_one_rank(deepseek, ranks, parallel) -> None:
    run = deepseek.repeated(ranks, {"parallel": parallel})

    assert off(run, deepseek.losses()) == {}


def test_recomputed_experts_change_nothing(experts) -> None:
    recompute = {"granularity": "selective", "modules": ["moe", "shared_experts"]}

    run = experts.repeated(2, {"parallel": {"ep": 2}, "recompute": recompute})

    assert off(run, experts.losses()) == {}


def test_the_first_loss_is_that_of_knowing_nothing(experts) -> None:
    assert experts.first_loss == pytest.approx(math.log(264), rel=0.05)


SPREAD = {
    "ep2": (2, {"ep": 2}),
    "pp2-ep2-uneven": (4, {"pp": 2, "ep": 2, "stage_layout": "Et|tttL"}),
}


@pytest.mark.parametrize(("ranks", "parallel"), cases(SPREAD, always=["pp2-ep2-uneven"]))
def test_experts_of_several_ranks_resume_on_one(experts, warm, ranks, parallel) -> None:
    spread = {"parallel": parallel, "checkpoint": {"interval_steps": HALF_WAY}}
    half = warm.run(
        config(experts.make, {**spread, "training": {"steps": HALF_WAY}}),
        ranks=ranks,
        resume_from=experts.start,
        staged=True,
    )

    rest = warm.run(config(experts.make, {}), resume_from=half.checkpoint(HALF_WAY))

    assert off(rest, experts.losses(after=HALF_WAY)) == {}
