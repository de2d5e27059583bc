"""The training programme of a run file: what it may say, and what the worker is told."""

import json
from pathlib import Path

import pytest

from launch.workers.megatron_core.arguments import read_arguments
from launch.workers.megatron_core.refusals import require_programme
from orchestrator import api
from orchestrator.errors import InvalidFile

EXAMPLE = "parallel_configs/tiny-gpt.local-x4.yaml"
LLAMA = """\
schema: 1
name: llama
model: llama-3.1-405b
cluster: {card: dgx-h100, hosts: 2048}
training:
  sequence_length: 8192
  global_batch_size: 2048
  batch_ramp:
    - {from_steps: 0, global_batch_size: 512}
    - {from_steps: 60, global_batch_size: 1024}
    - {from_tokens: 2_870_000_000_000, global_batch_size: 2048}
  tokens: 15_600_000_000_000
layout: {tp: 8, pp: 16, micro_batch_size: 1, stage_layout: "Et*7|(t*8|)*14t*7L"}
"""


@pytest.fixture
def text(root: Path) -> str:
    return (root / EXAMPLE).read_text()


def with_lines(text: str, **lines: str) -> str:
    """The example with some of its lines replaced, or added where it has none of that name."""
    for name, line in lines.items():
        kept = [old for old in text.splitlines() if not old.strip().startswith(f"{name}:")]
        head = "training:" if line.startswith("  ") else "schema: 1"
        head = "data:" if name in {"prefix", "blend", "split", "corpus"} else head
        at = kept.index(head)
        text = "\n".join([*kept[: at + 1], *([line] if line.strip() else []), *kept[at + 1 :]])
    return text + "\n"


def refusal(text: str) -> str:
    with pytest.raises(InvalidFile) as refused:
        api.read_run(text, file="run.yaml")
    return str(refused.value)


def test_the_published_ramp_is_counted_in_steps_and_tokens():
    run = api.read_run(LLAMA, file="run.yaml")

    assert run.steps == 1_100_928
    assert 15_600_000_000_000 <= run.tokens < 15_600_000_000_000 + 2048 * 8192


def test_smaller_batches_take_a_share_of_the_time():
    ramped = api.read_run(LLAMA, file="run.yaml")
    start, end = LLAMA.index("  batch_ramp"), LLAMA.index("  tokens")
    constant = api.read_run(LLAMA[:start] + LLAMA[end:], file="run.yaml")

    assert constant.steps == 929_833
    assert ramped.tokens == pytest.approx(constant.tokens, rel=1e-5)


def test_a_ramp_that_goes_back_is_named_in_the_file():
    text = LLAMA.replace("from_steps: 60", "from_steps: 0")

    assert "run.yaml: training.batch_ramp.1: from_steps 0 is step 0, not after" in refusal(text)


def test_the_worker_is_told_the_whole_programme(tmp_path, text):
    text = with_lines(
        text,
        steps="  tokens: 100_000",
        global_batch_size="  global_batch_size: 16",
        batch_ramp="  batch_ramp: [{from_steps: 0, global_batch_size: 8}, "
        "{from_samples: 30, global_batch_size: 16}]",
        optimizer="  optimizer: {decay_style: wsd, wsd_decay_steps: 5, warmup_fraction: 0.1}",
        evaluation="  evaluation: {interval_steps: 10, steps: 2}",
        corpus="",
        prefix="  blend: [{prefix: a, weight: 3}, {prefix: b, weight: 1}]",
        split="  split: 99,1,0",
        logging="logging: {interval_steps: 5, tensorboard_dir: curves}",
    )
    plan = api.plan(api.read_run(text, file="run.yaml")).plans[0]

    bundle = api.engine_named("megatron-core").render(plan)

    path = tmp_path / "arguments.json"
    path.write_text(bundle.files[0].text)
    arguments = read_arguments(path)
    require_programme(arguments, world_size=4)
    told = json.loads(bundle.files[0].text)
    assert bundle.last_step == plan.run.steps == 51  # 4 steps of 8, and 750 samples left by 16
    assert told["training"]["batch_ramp"] == [
        {"first_step": 0, "global_batch_size": 8},
        {"first_step": 4, "global_batch_size": 16},
    ]
    assert told["training"]["evaluation"] == {"interval_steps": 10, "steps": 2}
    assert told["training"]["optimizer"]["warmup_steps"] == 5
    assert told["training"]["optimizer"]["decay_steps"] == 51
    assert [source["prefix"] for source in told["data"]["sources"]] == ["a", "b"]
    assert told["logging"] == {"interval_steps": 5, "tensorboard_dir": "curves"}


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ({"split": "  split: 0,1"}, "'0,1' is not a split"),
        ({"split": "  split: 1,x"}, "'1,x' is not a split"),
        (
            {"evaluation": "  evaluation: {interval_steps: 5}"},
            "training.evaluation needs held-out documents, and data.split 1,0,0 has none",
        ),
        (
            {"blend": "  blend: [{prefix: a, weight: 1}, {prefix: b, weight: 2}]"},
            "give either prefix (one corpus) or blend",
        ),
        (
            {"prefix": "  blend: [{prefix: a, weight: 1}, {prefix: b, weight: 2}]"},
            "corpus makes one corpus: give its prefix instead of a blend",
        ),
        (
            {"corpus": "", "prefix": "  blend: [{prefix: a, weight: 1}, {prefix: a, weight: 2}]"},
            "a is in the blend twice",
        ),
        (
            {"corpus": "", "prefix": "  blend: [{prefix: a, weight: 0}]"},
            "data.blend.0.weight: 0: input should be greater than 0",
        ),
    ],
    ids=["split-of-nothing", "split-of-words", "nothing-held-out", "both", "made", "twice", "zero"],
)
def test_data_that_contradicts_itself_is_refused(text, lines, said):
    assert said in refusal(with_lines(text, **lines))
