"""Run files that break one rule each, by rule: what tests of the table and of the engines draw."""

import copy
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from orchestrator.catalog.cards import cluster_card, model_card
from orchestrator.catalog.resolve import resolve
from orchestrator.records.engine import MEGATRON_FAMILY, EngineCapabilities, EngineFamily
from orchestrator.records.run import ResolvedRun
from orchestrator.rules.change import Change
from orchestrator.rules.rule import Breach, Severity
from orchestrator.rules.table import breaches
from orchestrator.specs.choices import Offload, Precision, RecomputeGranularity, ScheduleKind
from orchestrator.specs.document import examined
from orchestrator.specs.run import RunSpec

Document = dict[str, Any]

DENSE: Document = {
    "schema": 1,
    "name": "r",
    "model": "llama-2-13b",
    "cluster": {"card": "dgx-h100", "hosts": 4},
    "training": {"sequence_length": 4096, "global_batch_size": 256, "steps": 100},
    "layout": {
        "tp": 4,
        "pp": 4,
        "vpp": 5,
        "micro_batch_size": 1,
        "sequence_parallel": True,
        "overlap": ["dp", "pp", "tp"],
    },
}
EXPERTS: Document = {
    **DENSE,
    "model": "mixtral-8x7b",
    "layout": {"tp": 2, "ep": 8, "etp": 1, "pp": 2, "sequence_parallel": True},
}
SHARED: Document = {
    **DENSE,
    "model": "deepseek-v3",
    "cluster": {"card": "dgx-h100", "hosts": 32},
    "layout": {"tp": 2, "ep": 8, "etp": 1, "sequence_parallel": True},
}

NARROW = EngineCapabilities(
    name="narrow",
    version="0.16.1",
    zero_stages=(0, 1),
    pipeline_zero_stages=(0,),
    schedules=(ScheduleKind.ONE_F_ONE_B,),
    recompute=(RecomputeGranularity.FULL,),
    precisions=(Precision.BF16,),
    axes=("tp", "pp", "vpp"),
    model_features=(),
    activations=("silu",),
    overlaps=(),
)
OLD = replace(MEGATRON_FAMILY, version="0.15.3")
NEW = replace(MEGATRON_FAMILY, version="0.19.2", zero_stages=(0, 1, 2, 3))
PINNED = replace(MEGATRON_FAMILY, version="0.16.1")
SPEED = replace(
    MEGATRON_FAMILY,
    name="deepspeed",
    version="0.19.8",
    family=EngineFamily.DEEPSPEED,
    zero_stages=(0, 1, 2, 3),
    offloads=tuple(Offload),
)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A run file that breaks a rule: values for keys of a good one, on an engine."""

    rule: str
    base: Document = field(default_factory=lambda: DENSE)
    values: dict[str, Any]
    engine: EngineCapabilities | None = None

    @property
    def document(self) -> Document:
        return changed(self.base, self.values)


@cache
def _inline(name: str) -> Document:
    return model_card(name).model_dump(mode="json", exclude_none=True)


@cache
def _inline_cluster() -> Document:
    return cluster_card("dgx-h100").model_dump(mode="json", exclude_none=True)


def changed(document: Document, values: dict[str, Any]) -> Document:
    """Return a run file with other values; names of cards become cards where keys reach inside."""
    new = copy.deepcopy(document)
    for key, value in values.items():
        place: Any = new
        *parents, last = key.split(".")
        for number, part in enumerate(parents):
            if part == "model" and isinstance(new["model"], str):
                new["model"] = copy.deepcopy(_inline(new["model"]))
            if parents[: number + 1] == ["cluster", "card"] and isinstance(place[part], str):
                place[part] = copy.deepcopy(_inline_cluster())
            place = place[int(part)] if part.isdigit() else place.setdefault(part, {})
        if value is None:
            place.pop(last, None)
        else:
            place[last] = list(value) if isinstance(value, tuple) else value
    return new


def applied(document: Document, change: Change) -> Document:
    return changed(document, dict(change.values))


def run_of(document: Document) -> ResolvedRun:
    """Return the resolved run of a document that has no problem of shape."""
    spec, problems = examined(document, model=RunSpec)
    assert not problems, [str(problem) for problem in problems]
    assert spec is not None
    return resolve(spec, file="run.yaml")


def found(document: Document, engine: EngineCapabilities | None) -> list[tuple[str, Breach]]:
    """Return every breach of a run file, warnings too, with the rule's id."""
    run = run_of(document)
    assert run.layout is not None
    return [
        (rule.id, breach)
        for severity in Severity
        for rule, breach in breaches(run, run.layout, capabilities=engine, severity=severity)
    ]


_WSD = {"decay_style": "wsd", "wsd_decay_steps": 99, "warmup_steps": 10}
_CHECKPOINT = {"interval_steps": 50}
_DATA = {"prefix": "d/x", "end_of_document": 99_999}
_RAMP = [
    {"from_steps": 0, "global_batch_size": 63},
    {"from_steps": 10, "global_batch_size": 256},
]
_COMBINED = {"layout.schedule": "combined-1f1b", "layout.vpp": 2, "layout.pp": 2}
_BLOCKS = {"training.precision": "fp8", "training.fp8_recipe": "blockwise"}
_DELAYED = {"training.precision": "fp8", "training.fp8_recipe": "delayed"}
_FP8 = {"training.precision": "fp8"}
_PLAIN = {"layout.vpp": 1, "layout.overlap": []}


def _selective(*modules: str) -> dict[str, Any]:
    return {"layout.recompute": {"granularity": "selective", "modules": list(modules)}}


def _options(*words: str, **values: Any) -> dict[str, Any]:
    return {"engine.arguments": list(words), **values}


def _case(rule: str, values: dict[str, Any], **other: Any) -> Case:
    return Case(rule=rule, values=values, **other)


_HALF = {"training.precision": "fp16"}
_ALONE = {"layout.tp": 1, "layout.pp": 1, "layout.sequence_parallel": False}

CASES = (
    _case("world-size", {"layout.tp": 5}),
    _case("world-size", {"layout.pp": 5, "layout.vpp": 4}),
    _case("world-size", {"layout.cp": 64}),
    _case("expert-world", {"layout.etp": 8, "layout.ep": 8}, base=EXPERTS),
    _case("expert-world", {"layout.etp": None, "layout.tp": 8, "layout.ep": 8}, base=EXPERTS),
    _case("etp-left-out", {"layout.etp": None}, base=EXPERTS),
    _case("tp-beyond-fast-links", {"layout.tp": 20}),
    _case("zero-replicas", {"layout.zero_replicas": 3}),
    _case(
        "zero-replicas-experts",
        {"layout.zero_replicas": 8, "layout.pp": 1, "layout.tp": 2, "layout.ep": 8},
        base=EXPERTS,
    ),
    _case("zero-replicas-stage", {"layout.zero_replicas": 2, "layout.zero_stage": 0}),
    _case("tp-heads", {"layout.tp": 16, "layout.pp": 2}),
    _case("tp-query-groups", {"layout.tp": 4, "model.num_query_groups": 10}),
    _case("tp-query-groups", {"layout.tp": 8, "model.num_query_groups": 20}),
    _case(
        "tp-query-groups-divide",
        {"layout.tp": 8, "model.num_query_groups": 4, "layout.pp": 2, "layout.vpp": 4},
        engine=OLD,
    ),
    _case("tp-ffn", {"model.ffn_hidden_size": 13_822}),
    _case(
        "etp-ffn",
        {"model.moe.moe_ffn_hidden_size": 14_337, "layout.etp": 2},
        base=EXPERTS,
    ),
    _case("tp-shared-experts", {"model.moe.shared_expert_intermediate_size": 2047}, base=SHARED),
    _case("nope-interval", {"model.nope_layer_interval": 3}),
    _case(
        "mtp-positions",
        {"model.mtp_num_layers": 1, "model.position_embedding": "learned_absolute"},
    ),
    _case("padded-vocabulary", {"checkpoint": _CHECKPOINT, "model": "gpt3-175b"}),
    _case("padded-vocabulary", {"checkpoint": _CHECKPOINT, "model": "tiny-gpt"}),
    _case("no-experts", {"layout.ep": 2}),
    _case("no-experts", {"layout.etp": 2}),
    _case("ep-experts", {"layout.ep": 3}, base=EXPERTS),
    _case("ep-experts", {"layout.ep": 16}, base=EXPERTS),
    _case("expert-biases", {"model.linear_bias": True, "layout.etp": 2}, base=EXPERTS),
    _case(
        "shared-expert-biases",
        {"model.linear_bias": True, "model.moe.shared_expert_intermediate_size": 64},
        base=EXPERTS,
    ),
    _case("experts-sequence-parallel", {"layout.sequence_parallel": False}, base=EXPERTS),
    _case(
        "expert-bias-score",
        {"model.moe.expert_bias": True, "model.moe.score_function": "softmax"},
        base=EXPERTS,
    ),
    _case("router-groups", {"model.moe.num_groups": 3, "model.moe.group_topk": 1}, base=EXPERTS),
    _case(
        "router-group-topk", {"model.moe.num_groups": 4, "model.moe.group_topk": 5}, base=EXPERTS
    ),
    _case(
        "router-topk-in-groups",
        {"model.moe.num_groups": 8, "model.moe.group_topk": 1},
        base=EXPERTS,
    ),
    _case(
        "router-topk-in-groups",
        {"model.moe.num_groups": 4, "model.moe.group_topk": 3},
        base=EXPERTS,
    ),
    _case(
        "context-chunks",
        {
            "layout.cp": 2,
            "layout.pp": 2,
            "layout.vpp": 4,
            "layout.overlap": ["pp"],
            "training.sequence_length": 4094,
            "layout.sequence_parallel": False,
        },
    ),
    _case("sequence-parallel-pieces", {"training.sequence_length": 4095}),
    _case("positions", {"training.sequence_length": 4128}),
    _case("sequence-parallel-tp", {"layout.tp": 1}),
    _case(
        "all-to-all-heads",
        {**_PLAIN, "layout.pp": 1, "layout.cp": 4, "layout.cp_comm_type": "a2a"},
    ),
    _case("unused-cp-comm-type", {"layout.cp_comm_type": "p2p"}),
    _case(
        "ulysses-heads",
        {
            **_PLAIN,
            "layout.cp": 16,
            "layout.pp": 1,
            "layout.tp": 1,
            "layout.sequence_parallel": False,
        },
        engine=SPEED,
    ),
    _case(
        "ulysses-sequence",
        {"layout.cp": 2, "layout.pp": 2, "layout.vpp": 4, "training.sequence_length": 4095},
        engine=SPEED,
    ),
    _case("ulysses-exchange", {"layout.cp": 2, "layout.cp_comm_type": "p2p"}, engine=SPEED),
    _case("ulysses-pipeline", {"layout.cp": 2, "layout.pp": 2, "layout.vpp": 4}, engine=SPEED),
    _case("offload-stage", {"layout.offload": "optimizer", "layout.zero_stage": 0}, engine=SPEED),
    _case("offload-stage", {"layout.offload": "parameters"}, engine=SPEED),
    _case("offload-stage", {**_PLAIN, **_ALONE, "layout.offload": "parameters"}, engine=SPEED),
    _case("gradient-format", {"layout.zero_stage": 0}, engine=SPEED),
    _case("gradient-format", {**_HALF, "layout.zero_stage": 0}, engine=SPEED),
    _case("gradient-format", {**_HALF, "training.numerics.gradients": "bf16"}, engine=SPEED),
    _case("engine-offload", {"layout.offload": "optimizer"}, engine=NARROW),
    _case("engine-offload", {"layout.offload": "parameters"}),
    _case("stages", {"layout.vpp": 3}),
    _case("stages", {**_PLAIN, "layout.pp": 16, "layout.tp": 2}),
    _case("stage-layout", {"layout.stage_layout": "Et|t|L"}),
    _case("stage-layout", {"layout.stage_layout": "E(t*2|)*19t*3L"}),
    _case("schedule", {"training.global_batch_size": 4}),
    _case("schedule", {"training.global_batch_size": 10}),
    _case("schedule", {"layout.schedule": "1f1b"}),
    _case("schedule", {"layout.microbatch_group_size": 3}),
    _case("schedule", {"layout.microbatch_group_size": 129}),
    _case("few-microbatches", {**_PLAIN, "training.global_batch_size": 4}),
    _case("overlap-one-chunk", {"layout.vpp": 1}),
    _case("overlap-two-ranks", {"layout.pp": 2, "layout.vpp": 4, "layout.overlap": []}),
    _case("overlap-tp", {"layout.sequence_parallel": False}),
    _case(
        "overlap-tp",
        {**_PLAIN, "layout.tp": 1, "layout.sequence_parallel": False, "layout.overlap": ["tp"]},
    ),
    _case("combined-experts", {**_COMBINED, "layout.overlap": ["pp"]}),
    _case("combined-experts", {**_COMBINED, "layout.ep": 1}, base=EXPERTS),
    _case(
        "combined-recompute",
        {**_COMBINED, "layout.recompute": {"granularity": "full"}},
        base=EXPERTS,
    ),
    _case("combined-recompute-moe", {**_COMBINED, **_selective("moe")}, base=EXPERTS, engine=NEW),
    _case("combined-precision", {**_COMBINED, "training.precision": "fp32"}, base=EXPERTS),
    _case("combined-mtp", {**_COMBINED, "model.mtp_num_layers": 2}, base=EXPERTS),
    _case("microbatches", {"training.global_batch_size": 255}),
    _case("microbatches", {"training.global_batch_size": 1}),
    _case("microbatches", {"layout.micro_batch_size": 3}),
    _case("microbatches", {"training.batch_ramp": _RAMP}),
    _case("warmup", {"training.optimizer.warmup_steps": 100}),
    _case("warmup", {"training.optimizer": {"warmup_fraction": 0.9, "decay_steps": 200}}),
    _case("warmup-decay", {"training.optimizer": {"warmup_steps": 20, "decay_steps": 20}}),
    _case("wsd-decay", {"training.optimizer": _WSD}),
    _case("end-of-document", {"data": _DATA}),
    _case("checkpoint-interval", {"checkpoint": {"interval_steps": 101}}),
    _case("precision", {"cluster.card": "dgx-a100-80", "training.precision": "fp8"}),
    _case("precision", {"cluster.card": "dgx-a100-80", **_DELAYED}),
    _case("fp8-widths", {**_FP8, "model.ffn_hidden_size": 13_840}),
    _case("fp8-widths", {**_FP8, "model.hidden_size": 5121}),
    _case("fp8-widths", {**_FP8, "model.head_dim": 129}),
    _case("fp8-widths", {**_FP8, "model.moe.moe_ffn_hidden_size": 14_340}, base=EXPERTS),
    _case("fp8-tokens", {**_FP8, "training.sequence_length": 4080}),
    _case("fp8-tokens", {**_BLOCKS, "training.sequence_length": 4064}),
    _case("fp8-block-widths", {**_BLOCKS, "model.ffn_hidden_size": 13_888}),
    _case("fp8-experts", _FP8, base=EXPERTS),
    _case("fp8-recipe", {**_FP8, "training.fp8_recipe": "mxfp8"}),
    _case("narrow-states", {"training.numerics.first_moment": "bf16", "layout.zero_stage": 0}),
    _case("optimizer-gradients", {"training.numerics.optimizer_gradients": "bf16"}),
    _case("narrow-parameters", {"training.numerics.narrow_parameters": True}),
    _case(
        "narrow-parameters",
        {**_FP8, "training.numerics.narrow_parameters": True, "layout.zero_stage": 0},
    ),
    _case(
        "fp32-gradients",
        {"training.precision": "fp32", "training.numerics.gradients": "bf16"},
    ),
    _case("recompute-modules", _selective("mlpp")),
    _case("recompute-moe-act", _selective("moe_act")),
    _case("recompute-mla", _selective("mla_up_proj", "mlp")),
    _case("recompute-layers", {"layout.recompute": {"granularity": "full", "layers": 3}}),
    _case(
        "recompute-layers",
        {
            **_PLAIN,
            "layout.recompute": {"granularity": "full", "layers": 12},
            "layout.stage_layout": "Et*11|t*11|t*11|t*7L",
        },
    ),
    _case("recompute-fp8", {**_DELAYED, **_selective("layernorm")}),
    _case("recompute-saves-nothing", _selective("core_attn")),
    _case("recompute-saves-nothing", _selective("shared_experts", "layernorm")),
    _case("recompute-saves-nothing", _selective("moe")),
    _case("recompute-saves-nothing", _selective("mlp"), base=EXPERTS),
    _case("one-connection", {"cluster.card.env.CUDA_DEVICE_MAX_CONNECTIONS": "8"}),
    _case(
        "many-connections",
        {"cluster.card.env.CUDA_DEVICE_MAX_CONNECTIONS": "1", "layout.zero_stage": 3},
    ),
    _case("fsdp-with-tp", {"layout.zero_stage": 2}, engine=NEW),
    _case("engine-axes", {"layout.cp": 2, "layout.pp": 2, "layout.vpp": 4}, engine=NARROW),
    _case("engine-axes", {"layout.ep": 8}, base=EXPERTS, engine=NARROW),
    _case("engine-zero-stage", {"layout.zero_stage": 3}, engine=NARROW),
    _case("zero-pipeline", {"layout.zero_stage": 1}, engine=NARROW),
    _case("engine-precision", _FP8, engine=NARROW),
    _case("engine-precision", _DELAYED, engine=NARROW),
    _case("engine-numerics", {"training.numerics.gradients": "bf16"}, engine=NARROW),
    _case("engine-recompute", _selective("mlp"), engine=NARROW),
    _case("engine-version", {"engine.version": "9"}, engine=NARROW),
    _case("engine-model", {}, base=EXPERTS, engine=NARROW),
    _case("engine-model", {"model.activation": "gelu"}, engine=NARROW),
    _case("engine-schedule", {}, engine=NARROW),
    _case("engine-fields", {"engine.checkout": "/opt/x"}, engine=NARROW),
    _case("engine-fields", _options("--log-progress"), engine=NARROW),
    _case("async-save-worker", _options("--async-save")),
    _case("rampup-ignored", _options("--rampup-batch-size", "16", "8", "300"), engine=NEW),
    _case("rampup-iterations", _options("--rampup-batch-size", "16", "8", "300"), engine=PINNED),
    _case("fp16-bf16", _options("--fp16", "--log-progress")),
    _case("fp4-fp8", _options("--fp4-format", "e2m1", **_FP8)),
    _case("fp8-param-gather", _options("--fp8-param-gather")),
    _case("first-last-bf16", _options("--first-last-layers-bf16", **_DELAYED)),
    _case("router-padding-fp8", _options("--moe-router-padding-for-quantization"), base=EXPERTS),
    _case(
        "precision-aware-optimizer",
        _options("--use-precision-aware-optimizer", **{"layout.zero_stage": 0}),
    ),
    _case("optimizer-offload", _options("--optimizer-cpu-offload")),
    _case("distribute-saved", _options("--distribute-saved-activations")),
    _case("cpu-offloading", _options("--cpu-offloading-num-layers", "4")),
    _case("delayed-wgrad", _options("--delay-wgrad-compute")),
    _case(
        "shared-expert-overlap",
        _options("--moe-shared-expert-overlap", **_selective("shared_experts", "mlp")),
        base=SHARED,
    ),
    _case("deterministic", _options("--deterministic-mode", "--cross-entropy-loss-fusion")),
    _case("fake-group-flex", _options("--fake-process-group", "--moe-enable-deepep")),
    _case(
        "cross-entropy-te",
        _options("--cross-entropy-loss-fusion", "--cross-entropy-fusion-impl", "te"),
        engine=NEW,
    ),
)
"""At least one run file for every rule of the table."""
