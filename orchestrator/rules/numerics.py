"""Rules on the formats of gradients and optimizer states, and on FP8's recipe and its hardware."""

from collections.abc import Callable

from orchestrator.records.engine import EngineFamily
from orchestrator.rules.change import Change, changes
from orchestrator.rules.rule import (
    MEGATRON,
    PASS,
    Breach,
    Breaches,
    Rule,
    Source,
    Subject,
    megatron_arguments,
    megatron_core,
)
from orchestrator.specs.choices import Fp8Recipe, Precision
from orchestrator.specs.numerics import NumericsSpec

_SECTION = "training.numerics"
_USUAL = NumericsSpec()
_STATES = ("optimizer_gradients", "master_parameters", "first_moment", "second_moment")
_MADE_FOR = {
    Fp8Recipe.BLOCKWISE: ("hopper", "blackwell", "blackwell-ultra"),
    Fp8Recipe.MXFP8: ("blackwell", "blackwell-ultra"),
}
"""Architectures whose matrix units take a recipe; the other recipes run wherever FP8 does."""


def _recipe_hardware(subject: Subject) -> Breaches:
    recipe, card = subject.run.training.fp8_recipe, subject.run.machine.accelerator
    made_for = _MADE_FOR.get(recipe) if recipe else None
    if recipe is None or made_for is None or card.architecture in made_for:
        return PASS
    said = {"recipe": recipe, "accelerator": card.name, "made_for": ", ".join(made_for)}
    others = [one for one in Fp8Recipe if card.architecture in _MADE_FOR.get(one, ("hopper",))]
    key = "training.fp8_recipe"
    return (Breach(key=key, said=said, passing=changes(key, (*others, None))),)


def _narrow_states(subject: Subject) -> Breaches:
    numerics = subject.run.training.numerics
    if not numerics.is_precision_aware or subject.layout.zero_stage > 0:
        return PASS
    names = [name for name in _STATES if getattr(numerics, name) != getattr(_USUAL, name)]
    passing = (*changes("layout.zero_stage", (1,)), _usual(*names))
    said = {"states": ", ".join(names)}
    return (Breach(key=f"{_SECTION}.{names[0]}", said=said, passing=passing),)


def _optimizer_gradients(subject: Subject) -> Breaches:
    numerics = subject.run.training.numerics
    if numerics.optimizer_gradients == "fp32" or numerics.gradients == "bf16":
        return PASS
    passing = (*changes(f"{_SECTION}.gradients", ("bf16",)), _usual("optimizer_gradients"))
    return (Breach(key=f"{_SECTION}.optimizer_gradients", passing=passing),)


def _narrow_parameters(subject: Subject) -> Breaches:
    run, layout = subject.run, subject.layout
    if not run.training.numerics.narrow_parameters:
        return PASS
    precision = run.training.precision
    if precision is Precision.FP8 and layout.zero_stage > 0:
        return PASS
    said = {"precision": precision, "stage": layout.zero_stage}
    passing = [_usual("narrow_parameters")]
    if precision is Precision.FP8:
        passing = [*changes("layout.zero_stage", (1,)), *passing]
    return (Breach(key=f"{_SECTION}.narrow_parameters", said=said, passing=passing),)


def _fp32_formats(subject: Subject) -> Breaches:
    training = subject.run.training
    if training.precision is not Precision.FP32 or training.numerics.gradients == "fp32":
        return PASS
    passing = (_usual("gradients"),)
    return (Breach(key=f"{_SECTION}.gradients", passing=passing),)


def _usual(*names: str) -> Change:
    return Change(values=tuple((f"{_SECTION}.{name}", None) for name in names))


def _rule(
    name: str, condition: str, message: str, source: Source, check: Callable[[Subject], Breaches]
) -> Rule:
    return Rule(
        id=name,
        condition=condition,
        message=message,
        source=source,
        check=check,
        families=MEGATRON,
    )


RULES = (
    Rule(
        id="fp8-recipe",
        condition="the accelerator's matrix units take the FP8 recipe",
        message="{recipe} does not run on {accelerator}; it needs {made_for}",
        source=Source(
            document="transformer-engine 2.9 transformer_engine/pytorch/quantization.py",
            words="Device compute capability 10.0 or higher required for MXFP8 execution",
        ),
        check=_recipe_hardware,
        families=frozenset(EngineFamily),
    ),
    _rule(
        "narrow-states",
        "optimizer states narrower than FP32 are those of a sharded optimizer",
        "{states}: the optimizer that keeps them is a sharded one, and zero_stage is 0",
        megatron_core(
            "optimizer/optimizer_config.py",
            381,
            "-aware-optimizer only supported with distributed",
        ),
        _narrow_states,
    ),
    _rule(
        "optimizer-gradients",
        "gradients that the optimizer reads in BF16 are reduced in BF16",
        "bf16, but gradients are reduced in fp32: Megatron keeps one buffer for both",
        megatron_arguments(
            1188,
            "--main-grads-dtype can only be fp32 when --accumulate-allreduce-grads-in-fp32",
            tag="core_v0.19.2",
        ),
        _optimizer_gradients,
    ),
    _rule(
        "narrow-parameters",
        "weights in 8 bits are those of an FP8 run with a sharded optimizer",
        "true with precision {precision} and zero_stage {stage}; it needs fp8 and 1 or more",
        megatron_arguments(657, "--fp8-param-gather only supported with distributed optimizer"),
        _narrow_parameters,
    ),
    _rule(
        "fp32-gradients",
        "an FP32 run accumulates and reduces gradients in FP32",
        "bf16 with precision fp32: Megatron reduces in BF16 only what is trained in it",
        megatron_arguments(
            1184, "bfloat16 requires gradient accumulation and all-reduce", tag="core_v0.19.2"
        ),
        _fp32_formats,
    ),
)
