"""The megatron-core engine: what it renders is what its worker reads, and nothing is dropped."""

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
    ],
    ids=["example", "interleaved", "sequence-parallel", "recompute", "bf16"],
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


def test_a_model_feature_that_the_document_cannot_say_is_refused(text):
    plan = plan_of(text)
    card = plan.run.model.model_copy(update={"rope_scaling": {"type": "llama3", "factor": 8.0}})
    special = replace(plan, run=replace(plan.run, model=card))

    with pytest.raises(EngineRefused, match="rope_scaling"):
        engine().render(special)
