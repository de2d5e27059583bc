"""Learning rates of Megatron's own scheduler, built as the worker builds it."""

from types import SimpleNamespace

import pytest

from launch.workers.megatron_core.programme import DecayStyle, OptimizerArguments, WsdDecayStyle

LLAMA_405B = {
    "learning_rate": 8e-5,
    "min_learning_rate": 8e-7,
    "warmup_steps": 8_000,
    "decay_steps": 1_200_000,
}


def settings(**changes) -> OptimizerArguments:
    return OptimizerArguments(
        **(
            {
                "learning_rate": 1.0,
                "min_learning_rate": 0.0,
                "initial_learning_rate": 0.0,
                "warmup_steps": 0,
                "decay_steps": 100,
                "decay_style": DecayStyle.COSINE,
                "wsd_decay_steps": None,
                "wsd_decay_style": None,
                "beta1": 0.9,
                "beta2": 0.95,
                "epsilon": 1e-8,
                "weight_decay": 0.1,
                "clip_grad": 1.0,
            }
            | changes
        )
    )


def rate_after(steps: int, given: OptimizerArguments) -> float:
    from launch.workers.megatron_core.learning_rate import build_schedule

    group = {}
    build_schedule(given, SimpleNamespace(param_groups=[group])).step(steps)
    assert group["weight_decay"] == 0.1
    return group["lr"]


@pytest.mark.parametrize(
    ("steps", "rate"),
    [
        (4_000, 4.0e-5),
        (8_000, 8.0e-5),
        (600_000, 4.0817e-5),
        (1_100_928, 2.142e-6),
        (1_200_000, 8.0e-7),
    ],
)
def test_llama_405bs_rate_is_the_published_one(steps, rate):
    assert rate_after(steps, settings(**LLAMA_405B)) == pytest.approx(rate, rel=2e-4)


@pytest.mark.parametrize(
    ("changes", "points"),
    [
        ({"decay_style": DecayStyle.LINEAR}, {50: 0.5, 100: 0.0, 200: 0.0}),
        ({"decay_style": DecayStyle.CONSTANT}, {50: 1.0, 200: 1.0}),
        (
            {"decay_style": DecayStyle.INVERSE_SQUARE_ROOT, "warmup_steps": 4},
            {2: 0.5, 16: 0.5, 64: 0.25},
        ),
        ({"warmup_steps": 10, "initial_learning_rate": 0.5}, {0: 0.5, 5: 0.75, 10: 1.0}),
        (
            {"decay_style": DecayStyle.WSD, "wsd_decay_steps": 20},
            {80: 1.0, 90: 2 * 0.5**0.5 - 1, 100: 0.0},
        ),
        (
            {
                "decay_style": DecayStyle.WSD,
                "wsd_decay_steps": 20,
                "wsd_decay_style": WsdDecayStyle.LINEAR,
            },
            {80: 1.0, 90: 0.5, 100: 0.0},
        ),
        (
            {
                "decay_style": DecayStyle.WSD,
                "wsd_decay_steps": 20,
                "wsd_decay_style": WsdDecayStyle.COSINE,
            },
            {80: 1.0, 85: 0.8535534, 90: 0.5},
        ),
        (
            {
                "decay_style": DecayStyle.WSD,
                "wsd_decay_steps": 20,
                "wsd_decay_style": WsdDecayStyle.MINUS_SQRT,
            },
            {80: 1.0, 85: 0.5, 100: 0.0},
        ),
    ],
    ids=[
        "linear",
        "constant",
        "inverse-square-root",
        "warm-up-from-above-0",
        "wsd",
        "wsd-linear",
        "wsd-cosine",
        "wsd-minus-sqrt",
    ],
)
def test_each_shape_has_its_points(changes, points):
    found = {steps: rate_after(steps, settings(**changes)) for steps in points}

    assert found == pytest.approx(points, abs=1e-6)
