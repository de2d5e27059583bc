"""Rules on recomputation: the engine knows the modules, the model has them, and memory is won."""

from functools import lru_cache

from orchestrator.cost.workload import keeps_scores
from orchestrator.errors import UsageError, nearest
from orchestrator.rules.change import change, changes
from orchestrator.rules.rule import (
    MEGATRON,
    PASS,
    Breach,
    Breaches,
    Rule,
    Severity,
    Subject,
    megatron_core,
    ours,
)
from orchestrator.schedules import stages
from orchestrator.specs.choices import Fp8Recipe

RECOMPUTE_MODULES = (
    *("core_attn", "moe_act", "layernorm", "mla_up_proj", "mlp", "moe", "shared_experts"),
)
"""Megatron's `--recompute-modules`."""

_MODULES = "layout.recompute.modules"


def _unknown_modules(subject: Subject) -> Breaches:
    modules = subject.layout.recompute.modules
    if not modules:
        return PASS
    return tuple(
        Breach(
            key=f"{_MODULES}.{index}", said={"name": name}, advice=nearest(name, RECOMPUTE_MODULES)
        )
        for index, name in enumerate(modules)
        if name not in RECOMPUTE_MODULES
    )


def _moe_act(subject: Subject) -> Breaches:
    return _needs(subject, "moe_act", has=subject.run.model.moe is not None)


def _mla_up_proj(subject: Subject) -> Breaches:
    return _needs(subject, "mla_up_proj", has=subject.run.model.mla is not None)


def _needs(subject: Subject, module: str, *, has: bool) -> Breaches:
    modules = subject.layout.recompute.modules
    if has or module not in modules:
        return PASS
    others = tuple(name for name in modules if name != module) or ("layernorm",)
    said = {"model": subject.run.model.name}
    return (Breach(key=_MODULES, said=said, passing=changes(_MODULES, (others,))),)


def _layers(subject: Subject) -> Breaches:
    layers = subject.layout.recompute.layers
    if layers is None:
        return PASS
    most = _layers_of_a_stage(subject)
    if not most or layers <= most:  # without a layer, the rule `stage-layout` speaks
        return PASS
    key = "layout.recompute.layers"
    said = {"layers": layers, "most": most}
    return (Breach(key=key, said=said, passing=changes(key, (most, None))),)


def _layers_of_a_stage(subject: Subject) -> int | None:
    """Return the layers of the fullest stage, None where other rules refuse the stages."""
    layout, layers = subject.layout, subject.run.model.num_layers
    if layout.stage_layout is None:
        return layers // layout.num_stages if layers % layout.num_stages == 0 else None
    return _fullest(layout.stage_layout)


@lru_cache(maxsize=4096)
def _fullest(text: str) -> int | None:
    try:
        return max(stage.decoder_layers for stage in stages.parse(text).stages)
    except UsageError:
        return None


def _fp8_modules(subject: Subject) -> Breaches:
    training, modules = subject.run.training, subject.layout.recompute.modules
    if training.fp8_recipe is not Fp8Recipe.DELAYED:
        return PASS
    refused = tuple(name for name in modules if name in {"moe_act", "layernorm"})
    if not refused:
        return PASS
    others = tuple(name for name in modules if name not in refused) or ("mlp",)
    passing = (
        *changes(_MODULES, (others,)),
        change("training.fp8_recipe", Fp8Recipe.TENSORWISE.value),
    )
    return (Breach(key=_MODULES, said={"modules": " and ".join(refused)}, passing=passing),)


def _saves_nothing(subject: Subject) -> Breaches:
    modules = subject.layout.recompute.modules
    idle = {name: why for name in modules if (why := _why_idle(subject, name))}
    if not idle:
        return PASS
    said = {"reasons": "; ".join(f"{name} ({why})" for name, why in idle.items())}
    useful = tuple(name for name in modules if name not in idle) or ("layernorm",)
    return (Breach(key=_MODULES, said=said, passing=changes(_MODULES, (useful,))),)


def _why_idle(subject: Subject, module: str) -> str:
    """Return why recomputing a module frees next to nothing, "" where it frees something."""
    model = subject.run.model
    if module == "core_attn" and not keeps_scores(subject.run.machine.accelerator):
        return "fused attention keeps no scores"
    if module == "moe" and model.moe is None:
        return f"{model.name} has no experts"
    if module == "shared_experts" and not (model.moe and model.moe.shared_expert_intermediate_size):
        return f"{model.name} has no shared experts"
    if module == "mlp" and all(model.is_moe_layer(layer) for layer in range(model.num_layers)):
        return f"{model.name} has experts in every layer"
    return ""


_CONFIG = "transformer/transformer_config.py"

RULES = (
    Rule(
        id="recompute-modules",
        condition="every recomputed module is one of Megatron's",
        message="'{name}' is no module that can be recomputed",
        source=megatron_core(_CONFIG, 1209, "Invalid choices for recompute_modules"),
        since="0.12",
        check=_unknown_modules,
    ),
    Rule(
        id="recompute-moe-act",
        condition="moe_act is recomputed in a model with experts",
        message="moe_act, but {model} has no experts",
        source=megatron_core(_CONFIG, 1215, "moe_act in recompute_modules is only supported"),
        since="0.12",
        families=MEGATRON,
        check=_moe_act,
    ),
    Rule(
        id="recompute-mla",
        condition="mla_up_proj is recomputed in a model with multi-latent attention",
        message="mla_up_proj, but {model} has no multi-latent attention",
        source=megatron_core(_CONFIG, 1220, "mla_up_proj in recompute_modules is only supported"),
        since="0.12",
        families=MEGATRON,
        check=_mla_up_proj,
    ),
    Rule(
        id="recompute-layers",
        condition="no more layers are recomputed than a stage holds",
        message="{layers} layers, but the fullest stage holds {most}",
        source=megatron_core(_CONFIG, 1175, "recompute_num_layers must be between"),
        check=_layers,
    ),
    Rule(
        id="recompute-fp8",
        condition="with delayed scaling, moe_act and layernorm are not recomputed",
        message="{modules}, but fp8_recipe delayed does not support recomputing them",
        source=megatron_core(_CONFIG, 1245, "Delayed scaling does not support moe_act"),
        since="0.14",
        families=MEGATRON,
        check=_fp8_modules,
    ),
    Rule(
        id="recompute-saves-nothing",
        condition="what is recomputed frees memory",
        message="recomputed for nothing: {reasons}",
        source=ours("Megatron-LM#1225: core_attn saves about 2 % with flash attention"),
        severity=Severity.WARNING,
        families=MEGATRON,
        check=_saves_nothing,
    ),
)
