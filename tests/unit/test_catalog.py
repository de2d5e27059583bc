"""The built-in cards load, name their sources, and resolve into runs."""

import pytest

from orchestrator.catalog.cards import (
    accelerator_names,
    cluster_card,
    cluster_names,
    model_card,
    model_names,
)
from orchestrator.catalog.resolve import resolve
from orchestrator.errors import InvalidFile, UnknownName
from orchestrator.specs.choices import ScheduleKind
from orchestrator.specs.document import parse_run
from orchestrator.specs.run import RunSpec

RUN = """
schema: 1
name: small
model: llama-3.1-405b
cluster: {card: dgx-h100, hosts: 2048}
training: {sequence_length: 8192, global_batch_size: 2048, tokens: 15_600_000_000_000}
layout: {tp: 8, pp: 16, vpp: 8, stage_layout: "E|(t|)*126,L"}
"""


def run(*changes: tuple[str, str]) -> RunSpec:
    text = RUN
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return parse_run(text, file="run.yaml")


def test_the_models_and_machines_people_plan_with_are_built_in():
    # Fifty-nine published models and one of ours; 28 host types and the local machine.
    assert (len(model_names()), len(cluster_names()), len(accelerator_names())) == (60, 29, 16)
    families = {name.split("-")[0] for name in model_names()}
    assert {"gpt3", "llama", "mixtral", "qwen3", "deepseek", "kimi", "gemma", "glm"} <= families
    providers = {cluster_card(name).provider for name in cluster_names()}
    assert providers == {"on-prem", "aws", "gcp", "azure", "oci", None}


@pytest.mark.parametrize("name", model_names())
def test_a_model_card_says_what_it_is_known_for(name):
    card = model_card(name)

    assert card.reference_training is not None
    assert card.published is not None


@pytest.mark.parametrize("name", cluster_names())
def test_a_cluster_is_made_of_a_built_in_accelerator(name):
    assert cluster_card(name).accelerator in accelerator_names()


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("gpt3-175", "gpt3-175b"),
        ("llama2-7b", "llama-2-7b"),
        ("qwen-2.5-7b", "qwen2.5-7b"),
        ("gemma2-9b", "gemma-2-9b"),
        ("deepseek_v3", "deepseek-v3"),
    ],
)
def test_an_unknown_card_is_refused_with_the_nearest_name(typed, meant):
    with pytest.raises(UnknownName, match=rf"(?s)'{typed}'.*did you mean '{meant}'\?"):
        model_card(typed)


def test_the_world_and_dp_are_derived():
    resolved = resolve(run(), file="run.yaml")

    assert resolved.machine.world_size == 16_384
    assert resolved.layout is not None
    assert resolved.layout.dp == 128
    assert resolved.layout.schedule is ScheduleKind.INTERLEAVED


def test_tokens_become_steps_rounded_up():
    resolved = resolve(run(), file="run.yaml")

    # 15.6 T tokens in batches of 2,048 x 8,192 tokens.
    assert resolved.steps == 929_833


def test_few_accelerators_share_one_host():
    resolved = resolve(run(("dgx-h100, hosts: 2048", "local-cpu, gpus: 4")), file="run.yaml")

    assert (resolved.machine.hosts, resolved.machine.gpus_per_host) == (1, 4)


def test_accelerators_that_are_not_whole_hosts_are_refused():
    with pytest.raises(InvalidFile, match=r"(?s)cluster.gpus: 12 .*possible: 8 or 16"):
        resolve(run(("hosts: 2048", "gpus: 12")), file="run.yaml")


def test_every_unknown_name_is_reported_at_once():
    spec = run(("llama-3.1-405b", "llama-3.1-405"), ("dgx-h100", "dgx-h10"))

    with pytest.raises(InvalidFile) as caught:
        resolve(spec, file="run.yaml")

    assert [problem.key for problem in caught.value.problems] == ["model", "cluster.card"]


def test_an_inline_card_needs_no_catalog():
    card = model_card("tiny-gpt").model_copy(update={"name": "mine"})
    spec = run(("hosts: 2048", "hosts: 1")).model_copy(update={"model": card})

    assert resolve(spec, file="run.yaml").model.name == "mine"
