"""The deepspeed engine: what its JSON says, and what is refused by name."""

import json
from typing import Any

import pytest
import yaml

from orchestrator import api
from orchestrator.engines.deepspeed.keys import RELEASES, complaints
from orchestrator.engines.deepspeed.row import document_of
from orchestrator.errors import EngineRefused, UnknownName
from orchestrator.records.bundle import EngineBundle

BASE: dict[str, Any] = {
    "schema": 1,
    "name": "r",
    "model": "llama-3.1-8b",
    "cluster": {"card": "dgx-h100", "hosts": 4},
    "training": {"sequence_length": 4096, "global_batch_size": 256, "steps": 1000},
    "layout": {"zero_stage": 3, "micro_batch_size": 1, "overlap": ["dp"]},
    "engine": {"name": "deepspeed", "script": "/opt/train.py"},
}
LAYER = 218_112_000
"""Parameters of a layer of llama-3.1-8b."""


def bundle_of(**sections: Any) -> EngineBundle:
    document = {**BASE, **sections}
    document["engine"] = {**BASE["engine"], **sections.get("engine", {})}
    engine = api.engine_named("deepspeed")
    text = yaml.safe_dump(document)
    run = api.read_run(text, file="run.yaml", capabilities=engine.capabilities())
    return engine.render(api.plan(run, capabilities=engine.capabilities(), keep=1).plans[0])


def config_of(**sections: Any) -> dict[str, Any]:
    (file,) = (f for f in bundle_of(**sections).files if f.path.endswith(".json"))
    return json.loads(file.text)


def config_with(own: dict[str, Any], **sections: Any) -> dict[str, Any]:
    return config_of(engine={"config": own}, **sections)


def refused(own: dict[str, Any], **sections: Any) -> str:
    with pytest.raises(EngineRefused) as caught:
        config_with(own, **sections)
    return str(caught.value)


def test_all_three_numbers_of_the_batch_are_written():
    config = config_of()

    assert config["train_batch_size"] == 256
    assert config["train_micro_batch_size_per_gpu"] == 1
    assert config["gradient_accumulation_steps"] == 8


@pytest.mark.parametrize(
    ("precision", "bf16", "fp16"),
    [("fp32", False, False), ("bf16", True, False), ("fp16", False, True)],
)
def test_one_precision_is_on(precision, bf16, fp16):
    config = config_of(training={**BASE["training"], "precision": precision})

    assert (config["bf16"]["enabled"], config["fp16"]["enabled"]) == (bf16, fp16)


def test_buckets_hold_a_layer_and_stage_3_prefetches_by_width():
    zero = config_of()["zero_optimization"]

    assert zero["reduce_bucket_size"] == LAYER
    assert zero["stage3_prefetch_bucket_size"] == int(0.9 * 4096 * 4096)
    assert zero["stage3_param_persistence_threshold"] == 10 * 4096
    assert "allgather_bucket_size" not in zero


def test_large_layers_keep_deepspeeds_bucket():
    zero = config_of(
        model="gpt3-175b",
        cluster={"card": "dgx-h100", "hosts": 64},
        training={"sequence_length": 2048, "global_batch_size": 512, "steps": 1000},
    )["zero_optimization"]

    assert zero["reduce_bucket_size"] == 500_000_000


def test_offload_is_written_as_blocks_and_leaves_the_gpu():
    sharded, states, weights = (
        {**BASE["layout"], "offload": kind} for kind in ("none", "optimizer", "parameters")
    )
    zero = config_of(layout=weights)["zero_optimization"]

    assert "offload_optimizer" not in config_of(layout=sharded)["zero_optimization"]
    assert "offload_param" not in config_of(layout=states)["zero_optimization"]
    assert zero["offload_optimizer"] == {"device": "cpu", "pin_memory": True}
    assert zero["offload_param"] == {"device": "cpu", "pin_memory": True}


def test_users_nvme_takes_the_place_of_the_hosts_memory():
    own = {"zero_optimization": {"offload_optimizer": {"device": "nvme", "nvme_path": "/nvme"}}}
    zero = config_with(own, layout={**BASE["layout"], "offload": "optimizer"})["zero_optimization"]

    assert zero["offload_optimizer"]["device"] == "nvme"
    assert zero["offload_optimizer"]["pin_memory"] is True


def test_ulysses_divides_the_world_of_the_batch():
    config = config_of(layout={**BASE["layout"], "cp": 4})

    assert config["sequence_parallel_size"] == 4
    assert config["gradient_accumulation_steps"] == 256 // (32 // 4)


def test_pipeline_and_activation_checkpointing_are_written_where_they_are_used():
    layout = {"pp": 4, "zero_stage": 1, "recompute": {"granularity": "full"}}
    config, plain = config_of(layout=layout), config_of()

    assert config["pipeline"] == {"stages": 4, "activation_checkpoint_interval": 1}
    assert config["activation_checkpointing"]["partition_activations"] is False
    assert "pipeline" not in plain
    assert "activation_checkpointing" not in plain


def test_monitors_and_the_comms_logger_are_the_users_to_turn_on():
    own = {
        "comms_logger": {"enabled": True, "verbose": True},
        "csv_monitor": {"enabled": True, "output_path": "/logs"},
        "wandb": {"enabled": True, "project": "p"},
    }
    config = config_with(own, logging={"tensorboard_dir": "/tb", "interval_steps": 10})

    assert config["comms_logger"] == {"enabled": True, "verbose": True}
    assert config["csv_monitor"]["output_path"] == "/logs"
    assert config["wandb"]["project"] == "p"
    assert config["tensorboard"] == {"enabled": True, "output_path": "/tb", "job_name": "r"}
    assert config["steps_per_print"] == 10


def test_every_key_has_its_reason():
    bundle = bundle_of()
    config = json.loads(next(f.text for f in bundle.files if f.path.endswith(".json")))
    reasons = {reason.part for reason in bundle.reasons}

    for path in leaves(config):
        assert path in reasons


def leaves(block: dict[str, Any], before: str = "") -> list[str]:
    found = []
    for key, value in block.items():
        found += leaves(value, f"{before}{key}.") if isinstance(value, dict) else [before + key]
    return found


def test_environment_file_is_bare_lines_of_all_variables():
    bundle = bundle_of()
    (text,) = (f.text for f in bundle.files if f.path == "engine/deepspeed_env")

    pairs = [tuple(line.split("=", maxsplit=1)) for line in text.removesuffix("\n").split("\n")]
    assert tuple(pairs) == bundle.env
    assert {"OMP_NUM_THREADS", "TORCH_NCCL_ASYNC_ERROR_HANDLING"} <= {name for name, _ in pairs}


def test_command_is_the_script_with_its_json_and_words():
    bundle = bundle_of(engine={"arguments": ["--data", "/d"]})

    script = ("python3", "/opt/train.py", "--deepspeed")
    config = ("--deepspeed_config", "{bundle}/engine/deepspeed.json")
    assert bundle.argv == (*script, *config, "--data", "/d")


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"zero_optimisation": {"stage": 3}}, "ignore it; did you mean 'zero_optimization'?"),
        ({"steps_per_pirnt": 3}, "did you mean 'steps_per_print'?"),
        ({"zero_optimization": {"bucket": 3}}, "zero_optimization.bucket: no key of"),
        ({"elasticity": {"enabled": True}}, "elasticity: removed in 0.19.8"),
        ({"nebula": {"enabled": True}}, "nebula: removed in 0.19.7"),
        ({"bf16": {"enabled": "yes"}}, 'bf16.enabled: takes true or false, not "yes"'),
        ({"fp16": {"enabled": True}}, "fp16.enabled: True, but False follows from the run file"),
        ({"optimizer": {"params": {"max_grad_norm": 1}}}, "change training.optimizer.clip_grad"),
        ({"zero_optimization": {"offload_param": {"device": "cpu"}}}, "give layout.offload"),
        ({"sequence_parallel_size": 2}, "change layout.cp instead"),
        ({"gradient_allreduce_op": "sum"}, "sum does not go with layout.zero_stage 3"),
        ({"zero_optimization": {"prefetch_bucket_size": 9}}, "mean 'stage3_prefetch_bucket_size'"),
    ],
)
def test_wrong_keys_of_the_user_are_refused_by_name(own, said):
    assert said in refused(own)


def test_wrong_triple_is_told_with_its_numbers_and_how_dp_came_about():
    layout = {"pp": 4, "zero_stage": 1, "micro_batch_size": 2}
    said = refused({"train_batch_size": 512}, layout=layout)

    assert "512 is not micro 2 x steps 16 x dp 8 = 256; dp 8 is 32 ranks / pp 4" in said


def test_triple_that_fits_a_world_of_one_is_told_so():
    said = refused({"train_batch_size": 8})

    assert "8 = 1 x 8 x 1 fits a world of 1" in said


def test_right_triple_may_be_written_again():
    assert config_with({"train_batch_size": 256})["train_batch_size"] == 256


def test_all_that_is_wrong_is_told_at_once():
    said = refused({"zero_optimisation": {}, "elasticity": {}, "train_batch_size": 7})

    assert all(key in said for key in ("zero_optimisation", "elasticity", "train_batch_size"))


@pytest.mark.parametrize(
    ("section", "values", "said"),
    [
        ("layout", {"pp": 2, "zero_stage": 1, "stage_layout": "Et*16|t*16L"}, "stage_layout"),
        ("layout", {"recompute": {"granularity": "full", "layers": 2}}, "recompute.layers: 2"),
        ("layout", {"zero_stage": 3, "zero_replicas": 2}, "zero_replicas: 2; replicas of shards"),
        ("data", {"prefix": "/d/x"}, "data: the script /opt/train.py reads"),
        ("checkpoint", {"interval_steps": 10}, "checkpoint: the script"),
    ],
)
def test_what_deepspeed_cannot_say_is_refused_by_name(section, values, said):
    with pytest.raises(EngineRefused, match=r"deepspeed 0\.19\.8 refuses") as caught:
        bundle_of(**{section: values})

    assert said in str(caught.value)


def test_linear_decay_to_another_rate_than_its_first_is_refused():
    training = {**BASE["training"], "optimizer": {"decay_style": "linear"}}

    with pytest.raises(EngineRefused, match="WarmupDecayLR ends where it began"):
        bundle_of(training=training)


def test_replicas_are_mics_in_a_release_that_has_them():
    layout = {"zero_stage": 3, "zero_replicas": 4}
    config = config_of(layout=layout, engine={"version": "0.19.6"})

    assert config["zero_optimization"]["mics_shard_size"] == 8


def test_absent_script_is_refused_with_what_to_write():
    with pytest.raises(EngineRefused, match=r"script is absent[^\n]*\n  engine: \{name: deepspeed"):
        bundle_of(engine={"script": None})


def test_unknown_release_is_refused():
    text = yaml.safe_dump({**BASE, "layout": {}, "engine": {**BASE["engine"], "version": "0.18"}})
    plan = api.plan(api.read_run(text, file="r")).plans[0]

    with pytest.raises(UnknownName, match=r"did you mean '0\.19\.\d'"):
        api.engine_named("deepspeed").render(plan)


@pytest.mark.parametrize("release", RELEASES)
def test_what_we_write_are_keys_of_each_release(release):
    for layout in (
        {"zero_stage": 1, "pp": 2, "recompute": {"granularity": "full"}},
        {"zero_stage": 2, "offload": "optimizer"},
        {"zero_stage": 3, "offload": "parameters", "cp": 2},
    ):
        assert [*complaints(release, config_of(layout=layout, engine={"version": release}))] == []


@pytest.mark.parametrize(
    ("key", "value", "first"),
    [
        ("expert_parallel", {}, 2),
        ("log_level", "info", 3),
        ("managed_gradient_accumulation", True, 4),
        ("gradient_allreduce_op", "mean", 6),
        ("disable_python_gc", True, 8),
    ],
)
def test_key_is_refused_before_the_release_that_brought_it(key, value, first):
    known = [not [*complaints(release, {key: value})] for release in RELEASES]

    assert known == [patch >= first for patch in range(9)]


def test_dots_of_settings_become_blocks():
    from orchestrator.engines.deepspeed.row import Setting

    settings = [
        Setting(section="", key=key, value=value, why="")
        for key, value in (("a.b.c", 1), ("a.d", (1.0, 2.0)), ("e", True))
    ]

    assert document_of(tuple(settings)) == {"a": {"b": {"c": 1}, "d": [1.0, 2.0]}, "e": True}
