"""Whether a run can load a checkpoint: why not, what changes, and what converts it."""

from dataclasses import replace
from typing import Any

import pytest
import yaml

from orchestrator import api
from orchestrator.engines.loading import Loading, loading_of
from orchestrator.records.checkpoint import CheckpointFormat, SavedCheckpoint

SAVED = SavedCheckpoint(
    format=CheckpointFormat.LLMORCH,
    folder="/c/step-4",
    size_bytes=1,
    num_files=1,
    flaws=(),
    step=4,
    samples=4,
    sequence_length=128,
    parameters=1,
    degrees={"tp": 1, "pp": 1, "cp": 1, "dp": 8, "ep": 1, "vpp": 1},
    world_size=8,
    zero_stage=1,
    precision="bf16",
    written_by=None,
    reshards_optimizer=True,
    model={},
)
LM = {"name": "megatron-lm", "version": "0.19.2", "checkout": "/opt/m"}
DS: dict[str, Any] = {"name": "deepspeed", "script": "/t.py"}
UNIVERSAL = {**DS, "config": {"checkpoint": {"load_universal": True}}}


NUMERICS = {"numerics": {"gradients": "bf16"}}  # what DeepSpeed asks for without ZeRO


def loaded(engine: dict[str, Any], layout: dict[str, Any], **saved: Any) -> Loading:
    document: dict[str, Any] = {
        "schema": 1,
        "name": "r",
        "model": "tiny-gpt",
        "cluster": {"card": "dgx-h100", "gpus": 8},
        "training": {"sequence_length": 128, "global_batch_size": 64, "steps": 100},
        "layout": layout,
        "engine": engine,
    }
    if layout.get("zero_stage") == 0 and engine["name"] == "deepspeed":
        document["training"] |= NUMERICS
    capabilities = api.engine_named(engine["name"]).capabilities()
    run = api.read_run(yaml.safe_dump(document), file="r", capabilities=capabilities)
    assert run.layout is not None
    return loading_of(replace(SAVED, **saved), run, run.layout)


def deepspeed(stage: int, dp: int, **saved: Any) -> dict[str, Any]:
    degrees = {"dp": dp}
    usual = {"format": CheckpointFormat.DEEPSPEED, "zero_stage": stage, "degrees": degrees}
    return {**usual, "folder": "/c/global_step4", "sequence_length": None, **saved}


def test_ours_loads_into_any_layout_and_says_what_changes():
    same = loaded({"name": "megatron-core"}, {"zero_stage": 1})
    other = loaded({"name": "megatron-core"}, {"tp": 2, "pp": 2, "zero_stage": 0})

    assert same == Loading()
    assert other.can
    assert other.changes[:3] == ("tp 1 becomes 2", "pp 1 becomes 2", "dp 8 becomes 2")
    assert "ZeRO 1 becomes 0" in other.changes
    assert "random states begin anew" in other.changes[-1]


def test_other_model_and_precision_are_refused_with_both_numbers():
    found = loaded({"name": "megatron-core"}, {}, model={"hidden_size": 7}, precision="fp32")

    assert found.reasons[0] == "hidden_size is 7 there and 128 in the run file"
    assert found.reasons[1] == "precision is fp32 there and bf16 in the run file"


def test_padding_that_follows_tp_is_refused_with_what_would_keep_it():
    found = loaded({"name": "megatron-core"}, {"tp": 2}, model={"padded_vocab_size": 384})

    assert "padded_vocab_size is 384 there" in found.reasons[0]
    assert "vocab_padding_multiple" in found.reasons[0]


def test_torn_checkpoint_loads_nowhere():
    assert not loaded({"name": "megatron-core"}, {}, flaws=("x is missing",)).can


@pytest.mark.parametrize(
    ("engine", "form"),
    [
        (LM, CheckpointFormat.LLMORCH),
        ({"name": "megatron-core"}, CheckpointFormat.TORCH_DIST),
        (DS, CheckpointFormat.LEGACY),
        (LM, CheckpointFormat.UNIVERSAL),
    ],
)
def test_checkpoint_of_another_engine_is_refused_by_name(engine, form):
    found = loaded(engine, {}, format=form)

    assert f"{engine['name']} does not read {form}" in found.reasons[0]
    assert not found.commands


def test_torch_dist_moves_its_optimizer_only_where_it_was_saved_for_that():
    form = {"format": CheckpointFormat.TORCH_DIST}
    fixed = loaded(LM, {"tp": 2, "sequence_parallel": True}, **form, reshards_optimizer=False)

    assert loaded(LM, {"tp": 2, "sequence_parallel": True}, **form).can
    assert "without --dist-ckpt-optim-fully-reshardable" in fixed.reasons[0]
    assert "--no-load-optim" in fixed.reasons[0]


def test_fsdp_needs_a_conversion():
    found = loaded(LM, {"zero_stage": 3, "overlap": ["dp"]}, format=CheckpointFormat.TORCH_DIST)

    assert "fsdp_dtensor" in found.reasons[0]
    tool = "/opt/m/tools/checkpoint/checkpoint_inspector.py convert-torch-dist-to-fsdp-dtensor"
    assert f"{tool} /c/step-4 /c/step-4_fsdp_dtensor" in found.commands[0]


def test_legacy_loads_into_its_layout_and_is_converted_for_another():
    form = {"format": CheckpointFormat.LEGACY, "folder": "/c/iter_0000004"}
    other = loaded(LM, {"tp": 2, "pp": 2, "sequence_parallel": True}, **form)

    assert loaded(LM, {}, **form).can
    (command,) = other.commands
    assert command == (
        "python3 /opt/m/tools/checkpoint/convert.py --model-type GPT --loader core --saver core "
        "--load-dir /c --save-dir /c-tp2-pp2 --target-tensor-parallel-size 2 "
        "--target-pipeline-parallel-size 2"
    )
    assert "weights alone" in other.changes[-1]


@pytest.mark.parametrize(
    ("there", "dp", "here", "loads", "converts"),
    [
        (2, 8, 2, True, False),
        (2, 4, 2, False, True),
        (2, 8, 1, False, True),
        (3, 4, 3, False, True),
        (2, 8, 3, False, False),
        (3, 8, 1, False, False),
        (0, 4, 0, True, False),
        (0, 8, 1, False, False),
    ],
)
def test_zero_loads_as_it_was_saved_or_through_universal(there, dp, here, loads, converts):
    found = loaded(DS, {"zero_stage": here}, **deepspeed(there, dp))

    assert found.can is loads
    assert bool(found.commands) is converts


def test_conversion_is_the_tool_and_the_pointer_that_loading_reads():
    found = loaded(DS, {"zero_stage": 1}, **deepspeed(2, 4))

    convert, point = found.commands
    assert convert == (
        "python3 -m deepspeed.checkpoint.ds_to_universal --inject_missing_state "
        "--input_folder /c/global_step4 --output_folder /c/global_step4_universal"
    )
    assert point == "printf %s global_step4_universal > /c/latest"
    assert "load_universal: true" in found.changes[-1]


def test_universal_loads_where_the_run_file_says_so():
    saved = deepspeed(2, 4, format=CheckpointFormat.UNIVERSAL)

    assert loaded(UNIVERSAL, {"zero_stage": 1}, **saved).can
    assert "load_universal: true" in loaded(DS, {"zero_stage": 1}, **saved).reasons[0]
    assert not loaded(UNIVERSAL, {"zero_stage": 3}, **saved).can


def test_pipeline_cut_anew_is_refused():
    found = loaded(DS, {"zero_stage": 1, "pp": 2}, **deepspeed(1, 8))

    assert "another cut into stages" in found.reasons[0]
    assert not found.commands
