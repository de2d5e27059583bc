"""Rules on the engine: what it does not run is refused by name, never ignored."""

from orchestrator.rules.change import change, changes
from orchestrator.rules.rule import (
    PASS,
    Breach,
    Breaches,
    Rule,
    Source,
    Subject,
    ours,
)
from orchestrator.specs.choices import Offload, RecomputeGranularity
from orchestrator.specs.numerics import NumericsSpec
from orchestrator.specs.run import HooksSpec

_USUAL_NUMERICS = NumericsSpec()

_AXES = ("tp", "pp", "cp", "ep", "etp", "vpp", "zero_replicas")


def _axes(subject: Subject) -> Breaches:
    engine, layout = subject.engine, subject.layout
    if engine is None:
        return PASS
    return tuple(
        Breach(
            key=f"layout.{axis}",
            said={"degree": degree, "engine": engine.name, "axis": axis},
            passing=changes(f"layout.{axis}", (1,)),
            advice="or another engine",
        )
        for axis in _AXES
        if (degree := getattr(layout, axis)) > 1 and axis not in engine.axes
    )


def _zero_stage(subject: Subject) -> Breaches:
    engine, stage = subject.engine, subject.layout.zero_stage
    if engine is None or stage in engine.zero_stages:
        return PASS
    said = {
        "stage": stage,
        "engine": engine.name,
        "stages": " and ".join(str(known) for known in engine.zero_stages),
    }
    passing = changes("layout.zero_stage", engine.zero_stages)
    return (Breach(key="layout.zero_stage", said=said, passing=passing),)


def _zero_and_pipeline(subject: Subject) -> Breaches:
    layout, engine = subject.layout, subject.engine
    if engine is None or layout.pp == 1 or layout.zero_stage not in engine.zero_stages:
        return PASS
    if layout.zero_stage in engine.pipeline_zero_stages:
        return PASS
    said = {
        "stage": layout.zero_stage,
        "pp": layout.pp,
        "engine": engine.name,
        "stages": " and ".join(str(known) for known in engine.pipeline_zero_stages),
    }
    passing = (
        *changes("layout.zero_stage", engine.pipeline_zero_stages),
        change("layout.pp", 1),
    )
    return (Breach(key="layout.zero_stage", said=said, passing=passing),)


def _precision(subject: Subject) -> Breaches:
    engine, precision = subject.engine, subject.run.training.precision
    if engine is None or precision in engine.precisions:
        return PASS
    known = [one.value for one in engine.precisions]
    said = {"precision": precision, "engine": engine.name}
    recipe = subject.run.training.fp8_recipe
    passing = () if recipe else changes("training.precision", known)
    advice = f"use {', '.join(known)} without fp8_recipe" if recipe else ""
    return (Breach(key="training.precision", said=said, passing=passing, advice=advice),)


def _numerics(subject: Subject) -> Breaches:
    """Return each format of gradients and states that the engine does not set."""
    engine, numerics = subject.engine, subject.run.training.numerics
    if engine is None or numerics == _USUAL_NUMERICS:
        return PASS
    asked = {
        name: getattr(numerics, name)
        for name in type(numerics).model_fields
        if getattr(numerics, name) != getattr(_USUAL_NUMERICS, name)
    }
    return tuple(
        Breach(
            key=f"training.numerics.{name}",
            said={"value": value, "engine": engine.name},
            passing=changes(f"training.numerics.{name}", (getattr(_USUAL_NUMERICS, name),)),
        )
        for name, value in asked.items()
        if name not in engine.numerics
    )


def _recompute(subject: Subject) -> Breaches:
    engine, granularity = subject.engine, subject.layout.recompute.granularity
    if engine is None or granularity is RecomputeGranularity.NONE:
        return PASS
    if granularity in engine.recompute:
        return PASS
    said = {
        "granularity": granularity,
        "engine": engine.name,
        "known": ", ".join(("none", *engine.recompute)),
    }
    return (
        Breach(
            key="layout.recompute.granularity",
            said=said,
            passing=changes("layout.recompute", (None,)),
        ),
    )


def _offload(subject: Subject) -> Breaches:
    engine, offload = subject.engine, subject.layout.offload
    known = (Offload.NONE,) if engine is None else engine.offloads
    if offload in known:
        return PASS
    said = {"offload": offload, "engine": "Megatron" if engine is None else engine.name}
    passing = changes("layout.offload", [one.value for one in known])
    return (Breach(key="layout.offload", said=said, passing=passing),)


def _version(subject: Subject) -> Breaches:
    engine, asked = subject.engine, subject.run.spec.engine.version
    if engine is None or asked is None or engine.version == "any":
        return PASS
    known = engine.versions or (engine.version,)
    if asked in known:
        return PASS
    said = {"asked": asked, "versions": ", ".join(known), "engine": engine.name}
    passing = changes("engine.version", (*known, None))
    return (Breach(key="engine.version", said=said, passing=passing),)


def _model(subject: Subject) -> Breaches:
    engine, model = subject.engine, subject.run.model
    if engine is None:
        return PASS
    lacking = [name for name in model.special_fields() if name not in engine.model_features]
    if model.activation not in engine.activations:
        lacking.append(f"activation {model.activation}")
    if not lacking:
        return PASS
    said = {"model": model.name, "lacking": ", ".join(lacking), "engine": engine.name}
    return (Breach(key="model", said=said, advice="choose a model without it, or another engine"),)


def _fields(subject: Subject) -> Breaches:
    engine, spec = subject.engine, subject.run.spec.engine
    if engine is None:
        return PASS
    given = (
        ("checkout", spec.checkout),
        ("arguments", spec.arguments),
        ("script", spec.script),
        ("config", spec.config),
        ("hooks", spec.hooks != HooksSpec()),
    )
    return tuple(
        Breach(
            key=f"engine.{name}",
            said={"engine": engine.name, "field": name},
            passing=changes(f"engine.{name}", (None,)),
        )
        for name, value in given
        if value and name not in engine.fields
    )


def _schedule(subject: Subject) -> Breaches:
    engine, schedule = subject.engine, subject.layout.schedule
    if engine is None or schedule in engine.schedules:
        return PASS
    known = [one.value for one in engine.schedules]
    said = {"schedule": schedule, "engine": engine.name}
    passing = changes("layout.schedule", known)
    return (Breach(key="layout.schedule", said=said, passing=passing),)


_CAPABILITIES = ours("what the engine says of itself")

RULES = (
    Rule(
        id="engine-axes",
        condition="the engine runs every axis above 1",
        message="{degree}, but {engine} runs {axis} 1 alone",
        source=_CAPABILITIES,
        check=_axes,
    ),
    Rule(
        id="engine-zero-stage",
        condition="the engine runs the ZeRO stage",
        message="{stage}, but {engine} runs {stages} alone",
        source=_CAPABILITIES,
        check=_zero_stage,
    ),
    Rule(
        id="zero-pipeline",
        condition="the engine runs the ZeRO stage together with a pipeline",
        message="{stage} with pp {pp}, but {engine} runs {stages} with a pipeline",
        source=Source(
            document="deepspeed 0.19.8 deepspeed/runtime/pipe/engine.py",
            line=77,
            words="ZeRO-2 and ZeRO-3 are incompatible with pipeline parallelism",
        ),
        check=_zero_and_pipeline,
    ),
    Rule(
        id="engine-precision",
        condition="the engine runs the precision",
        message="{precision} is not run by {engine}",
        source=_CAPABILITIES,
        check=_precision,
    ),
    Rule(
        id="engine-numerics",
        condition="the engine sets the formats of gradients and optimizer states",
        message="{value} is not set by {engine}",
        source=_CAPABILITIES,
        check=_numerics,
    ),
    Rule(
        id="engine-offload",
        condition="the engine keeps in host memory what layout.offload says",
        message="{offload} is not offloaded by {engine}",
        source=_CAPABILITIES,
        check=_offload,
    ),
    Rule(
        id="engine-recompute",
        condition="the engine runs the recomputation",
        message="{granularity} is not run by {engine}, which knows {known}",
        source=_CAPABILITIES,
        check=_recompute,
    ),
    Rule(
        id="engine-version",
        condition="the engine's version is the one asked for",
        message="{asked}, but {engine} runs {versions}",
        source=_CAPABILITIES,
        check=_version,
    ),
    Rule(
        id="engine-model",
        condition="the engine builds the model",
        message="{model} has {lacking}, which {engine} does not build yet",
        source=_CAPABILITIES,
        check=_model,
    ),
    Rule(
        id="engine-schedule",
        condition="the engine runs the schedule",
        message="{schedule} is not run by {engine}",
        source=_CAPABILITIES,
        check=_schedule,
    ),
    Rule(
        id="engine-fields",
        condition="the engine reads every key of the section engine that is given",
        message="given, but {engine} has no {field}",
        source=_CAPABILITIES,
        check=_fields,
    ),
)

ENGINE_RULES = frozenset(rule.id for rule in RULES)
"""Rules that another engine, or a later version of this one, would not have."""
