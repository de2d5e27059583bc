"""The megatron-core engine: what it renders is what its worker reads, and nothing is dropped."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from launch.workers.megatron_core.arguments import read_arguments
from launch.workers.megatron_core.support import require_support
from orchestrator import api
from orchestrator.engines.contract import Engine
from orchestrator.engines.registry import engine_names
from orchestrator.errors import EngineRefused, ExitCode, UnknownName
from orchestrator.records.plan import Plan
from orchestrator.specs.choices import OverlapAxis
from orchestrator.specs.model import ModelCard
from orchestrator.specs.run import RunSpec

EXAMPLE = "parallel_configs/tiny-gpt.local-x4.yaml"


@pytest.fixture
def text(root: Path) -> str:
    return (root / EXAMPLE).read_text()


def plan_of(text: str) -> Plan:
    return api.plan(api.read_run(text, file="run.yaml")).plans[0]


def engine() -> Engine:
    return api.engine_named("megatron-core")


def test_the_engine_is_found_by_its_entry_point():
    assert "megatron-core" in engine_names()


def test_an_unknown_engine_is_refused_with_the_nearest_name():
    with pytest.raises(UnknownName, match="did you mean 'megatron-core'"):
        api.engine_named("megatron-cor")


@pytest.mark.parametrize(
    "changes",
    [
        (),
        (("tp: 2, pp: 2", "tp: 1, pp: 2, vpp: 2, overlap: [pp]"),),
        (("tp: 2, pp: 2", "tp: 2, sequence_parallel: true"),),
        (("zero_stage: 1", "zero_stage: 0, recompute: {granularity: full, layers: 1}"),),
        (("precision: fp32", "precision: bf16"),),
        (("tp: 2, pp: 2", "cp: 2, pp: 2, overlap: [dp]"),),
        (("tp: 2, pp: 2", "tp: 1, pp: 2, stage_layout: 'Et|tttL'"),),
    ],
    ids=[
        *("example", "interleaved", "sequence-parallel", "recompute", "bf16"),
        *("context-parallel", "uneven-stages"),
    ],
)
def test_the_worker_reads_and_supports_what_is_rendered(tmp_path, text, changes):
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    plan = plan_of(text)
    assert api.problems(plan.run, capabilities=engine().capabilities()) == ()

    bundle = engine().render(plan)

    path = tmp_path / "arguments.json"
    path.write_text(bundle.files[0].text)
    arguments = read_arguments(path)
    require_support(arguments, world_size=bundle.world_size)
    assert arguments.parallel.tp == plan.layout.tp
    assert arguments.training.steps == bundle.last_step == plan.run.steps


def test_ranks_with_tensor_parallelism_use_one_connection_and_others_need_not(text):
    with_tp = dict(engine().render(plan_of(text)).env)
    without = dict(engine().render(plan_of(text.replace("tp: 2, pp: 2", "pp: 2"))).env)

    assert with_tp["CUDA_DEVICE_MAX_CONNECTIONS"] == "1"
    assert "CUDA_DEVICE_MAX_CONNECTIONS" not in without


@pytest.mark.parametrize("section", ["data", "checkpoint"])
def test_a_run_file_without_what_training_needs_is_refused(text, section):
    plan = plan_of(text)
    spec: RunSpec = plan.run.spec.model_copy(update={section: None})
    poor = replace(plan, run=replace(plan.run, spec=spec))

    with pytest.raises(EngineRefused, match=f"has no '{section}' section") as caught:
        engine().render(poor)

    assert caught.value.exit_code is ExitCode.ENGINE_REFUSES


def of_model(text: str, **changes: object) -> Plan:
    plan = plan_of(text)
    card = ModelCard.model_validate({**plan.run.model.model_dump(), **changes})
    return replace(plan, run=replace(plan.run, model=card))


def test_a_model_feature_that_the_document_cannot_say_is_refused(text):
    with pytest.raises(EngineRefused, match="attention_sinks"):
        engine().render(of_model(text, attention_sinks=True))


LLAMA3 = {
    "type": "llama3",
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def test_llama_3s_rotary_scaling_is_rendered_with_its_factor(text):
    bundle = engine().render(of_model(text, rope_scaling=LLAMA3))

    assert json.loads(bundle.files[0].text)["model"]["rope_scaling_factor"] == 32.0


@pytest.mark.parametrize(
    "change", [{"type": "yarn"}, {"high_freq_factor": 8.0}, {"beta_fast": 32}], ids=str
)
def test_a_rotary_scaling_that_megatron_has_not_is_refused(text, change):
    with pytest.raises(EngineRefused, match=r"high_freq_factor 4\.0, .* and any factor"):
        engine().render(of_model(text, rope_scaling={**LLAMA3, **change}))


def test_experts_are_rendered_layer_by_layer(tmp_path, text):
    experts = {
        "num_experts": 8,
        "router_topk": 2,
        "moe_ffn_hidden_size": 64,
        "layer_pattern": "[0]*1+[1]*3",
        "score_function": "sigmoid",
        "expert_bias": True,
    }
    plan = of_model(text, moe=experts, linear_bias=False)
    layout = replace(plan.layout, tp=1, pp=1, dp=4, ep=4)

    bundle = engine().render(replace(plan, layout=layout))

    path = tmp_path / "arguments.json"
    path.write_text(bundle.files[0].text)
    arguments = read_arguments(path)
    require_support(arguments, world_size=4)
    assert arguments.model.moe.layers[:4] == (0, 1, 1, 1)
    assert arguments.model.moe.shared_expert_ffn_hidden_size is None
    assert arguments.model.moe.expert_bias_update_rate == 1e-3


def test_what_the_worker_does_not_overlap_is_not_asked_of_it(text):
    plan = plan_of(text)
    layout = replace(plan.layout, overlap=(OverlapAxis.DP, OverlapAxis.TP))

    bundle = engine().render(replace(plan, layout=layout))

    assert json.loads(bundle.files[0].text)["parallel"]["overlap"] == ["dp"]
