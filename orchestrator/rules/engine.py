"""Rules on the engine: what it does not run is refused by name, never ignored."""

from collections.abc import Iterator

from orchestrator.errors import Problem, nearest
from orchestrator.rules.rule import Rule, Subject
from orchestrator.specs.choices import Precision, RecomputeGranularity

RECOMPUTE_MODULES = (
    *("core_attn", "moe_act", "layernorm", "mla_up_proj", "mlp", "moe", "shared_experts"),
)
"""Megatron's `--recompute-modules`."""


def _axes(subject: Subject) -> Iterator[Problem]:
    if subject.engine is None:
        return
    for axis in ("tp", "pp", "cp", "ep", "etp", "vpp", "zero_replicas"):
        degree = getattr(subject.layout, axis)
        if degree > 1 and axis not in subject.engine.axes:
            yield Problem(
                key=f"layout.{axis}",
                message=f"{degree}, but {subject.engine.name} runs {axis} 1 alone",
                possible=f"use {axis}: 1, or another engine",
                rule="engine-axes",
            )


def _zero_stage(subject: Subject) -> Iterator[Problem]:
    if subject.engine and subject.layout.zero_stage not in subject.engine.zero_stages:
        stages = " and ".join(str(stage) for stage in subject.engine.zero_stages)
        yield Problem(
            key="layout.zero_stage",
            message=f"{subject.layout.zero_stage}, but {subject.engine.name} runs {stages} alone",
            possible=f"possible: {stages.replace(' and ', ', ')}",
            rule="engine-zero-stage",
        )


def _zero_and_pipeline(subject: Subject) -> Iterator[Problem]:
    layout, engine = subject.layout, subject.engine
    if engine is None or layout.pp == 1 or layout.zero_stage not in engine.zero_stages:
        return
    if layout.zero_stage not in engine.pipeline_zero_stages:
        stages = ", ".join(str(stage) for stage in engine.pipeline_zero_stages)
        yield Problem(
            key="layout.zero_stage",
            message=f"{layout.zero_stage} with pp {layout.pp}, but {engine.name} runs "
            f"{stages} with a pipeline",
            possible=f"possible: {stages}; or pp: 1",
            rule="zero-pipeline",
        )


def _precision(subject: Subject) -> Iterator[Problem]:
    precision = subject.run.training.precision
    accelerator = subject.run.machine.accelerator
    if precision not in accelerator.dense_tflops:
        known = ", ".join(sorted(accelerator.dense_tflops))
        yield Problem(
            key="training.precision",
            message=f"{precision} does not run on {accelerator.name}",
            possible=f"possible: {known}",
            rule="precision",
        )
    elif subject.engine and precision not in subject.engine.precisions:
        known = ", ".join(subject.engine.precisions)
        yield Problem(
            key="training.precision",
            message=f"{precision} is not run by {subject.engine.name}",
            possible=f"possible: {known}",
            rule="precision",
        )


def _fp8_alignment(subject: Subject) -> Iterator[Problem]:
    if subject.run.training.precision is not Precision.FP8:
        return
    model, layout = subject.run.model, subject.layout
    for name, width in (("hidden_size", model.hidden_size), ("FFN width", model.ffn_hidden_size)):
        if (width // layout.tp) % 16:
            yield Problem(
                key="layout.tp",
                message=f"{name} {width} / tp {layout.tp} = {width // layout.tp} is not a "
                "multiple of 16, which FP8 matrix products need",
                possible="use a smaller tp, or precision: bf16",
                rule="fp8-alignment",
            )


def _recompute(subject: Subject) -> Iterator[Problem]:
    granularity = subject.layout.recompute.granularity
    if (
        subject.engine
        and granularity is not RecomputeGranularity.NONE
        and granularity not in subject.engine.recompute
    ):
        yield Problem(
            key="layout.recompute.granularity",
            message=f"{granularity} is not run by {subject.engine.name}",
            possible=f"possible: none, {', '.join(subject.engine.recompute)}",
            rule="engine-recompute",
        )


def _recompute_modules(subject: Subject) -> Iterator[Problem]:
    for index, name in enumerate(subject.layout.recompute.modules):
        if name not in RECOMPUTE_MODULES:
            yield Problem(
                key=f"layout.recompute.modules.{index}",
                message=f"'{name}' is no module that can be recomputed",
                possible=nearest(name, RECOMPUTE_MODULES),
                rule="recompute-modules",
            )


def _version(subject: Subject) -> Iterator[Problem]:
    engine, asked = subject.engine, subject.run.spec.engine.version
    if engine and asked and engine.version not in {asked, "any"}:
        yield Problem(
            key="engine.version",
            message=f"{asked}, but {engine.version} of {engine.name} is the version that is run",
            possible=f"use {engine.version}, or leave it out",
            rule="engine-version",
        )


def _model(subject: Subject) -> Iterator[Problem]:
    if subject.engine is None:
        return
    model, engine = subject.run.model, subject.engine
    lacking = [name for name in model.special_fields() if name not in engine.model_features]
    if model.activation not in engine.activations:
        lacking.append(f"activation {model.activation}")
    if lacking:
        yield Problem(
            key="model",
            message=f"{model.name} has {', '.join(lacking)}, which {engine.name} "
            "does not build yet",
            possible="choose a model without it, or another engine",
            rule="engine-model",
        )


def _schedule(subject: Subject) -> Iterator[Problem]:
    schedule = subject.layout.schedule
    if subject.engine and schedule not in subject.engine.schedules:
        known = ", ".join(subject.engine.schedules)
        yield Problem(
            key="layout.schedule",
            message=f"{schedule} is not run by {subject.engine.name}",
            possible=f"possible: {known}",
            rule="engine-schedule",
        )


ENGINE_RULES = frozenset(
    {
        *("engine-axes", "engine-zero-stage", "zero-pipeline", "engine-recompute"),
        *("engine-version", "engine-model", "engine-schedule"),
    }
)
"""Rules that another engine, or a later version of this one, would not have."""

RULES = (
    Rule(
        id="engine-axes",
        condition="the engine runs every axis above 1",
        source="the engine's capabilities",
        since="any",
        check=_axes,
    ),
    Rule(
        id="engine-zero-stage",
        condition="the engine runs the ZeRO stage",
        source="the engine's capabilities",
        since="any",
        check=_zero_stage,
    ),
    Rule(
        id="zero-pipeline",
        condition="the engine runs the ZeRO stage together with a pipeline",
        source="DeepSpeed PipelineEngine asserts stage 0 or 1; others by capability",
        since="any",
        check=_zero_and_pipeline,
    ),
    Rule(
        id="precision",
        condition="accelerator and engine run the precision",
        source="the accelerator's card and the engine's capabilities",
        since="any",
        check=_precision,
    ),
    Rule(
        id="fp8-alignment",
        condition="with FP8, widths cut by tp are multiples of 16",
        source="Transformer Engine",
        since="transformer-engine@1.0",
        check=_fp8_alignment,
    ),
    Rule(
        id="engine-recompute",
        condition="the engine runs the recomputation",
        source="the engine's capabilities",
        since="any",
        check=_recompute,
    ),
    Rule(
        id="recompute-modules",
        condition="every recomputed module is one of Megatron's",
        source="Megatron TransformerConfig",
        since="megatron-core@0.12",
        check=_recompute_modules,
    ),
    Rule(
        id="engine-version",
        condition="the engine's version is the one asked for",
        source="the engine's capabilities",
        since="any",
        check=_version,
    ),
    Rule(
        id="engine-model",
        condition="the engine builds the model",
        source="the engine's capabilities",
        since="any",
        check=_model,
    ),
    Rule(
        id="engine-schedule",
        condition="the engine runs the schedule",
        source="the engine's capabilities",
        since="any",
        check=_schedule,
    ),
)
