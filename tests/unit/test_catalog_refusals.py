"""A card without sources, with unknown keys, bits for bytes or sparse rates is refused."""

import datetime as dt

import pytest
import yaml

from orchestrator.catalog.cards import (
    accelerator_card,
    accelerator_names,
    cluster_card,
    cluster_names,
    environment_card,
    environment_names,
    model_card,
    model_names,
)
from orchestrator.catalog.check import CEILINGS, figure_problems, source_problems
from orchestrator.catalog.resolve import resolve
from orchestrator.errors import InvalidFile
from orchestrator.specs.cluster import AcceleratorCard, ClusterCard, EnvironmentCard, Price
from orchestrator.specs.document import parse, parse_run

ALL = [
    *((model_card, name) for name in model_names()),
    *((cluster_card, name) for name in cluster_names()),
    *((accelerator_card, name) for name in accelerator_names()),
    *((environment_card, name) for name in environment_names()),
]

H100 = """
name: mine
vendor: NVIDIA
architecture: hopper
memory_gib: 79.6
memory_gb: 80
memory_bandwidth_tb_per_s: 3.35
dense_tflops: {fp32: 494.7, bf16: 989.4, fp8: 1978.9}
scale_up_gb_per_s: 450
power_w: 700
source: [a data sheet]
retrieved: 2026-11-20
"""

CLUSTER = """
name: mine
accelerator: h100-80gb-sxm
gpus_per_host: 8
scale_up_domain_gpus: 8
network_gbit_per_s_per_gpu: 400
network_latency_us: 5
fabric: InfiniBand
nics: {model: ConnectX-7, count: 8, gbit_per_s: 400}
"""

RUN = """
schema: 1
name: r
model: llama-2-13b
cluster: {hosts: 4}
training: {sequence_length: 4096, global_batch_size: 256, steps: 100}
"""


def changed(text, **changes):
    fields = {key: value for key, value in (yaml.safe_load(text) | changes).items() if value}
    return yaml.safe_dump(fields)


def accelerator(**changes):
    return parse(changed(H100, **changes), model=AcceleratorCard, file="card.yaml")


def cluster(**changes):
    return parse(changed(CLUSTER, **changes), model=ClusterCard, file="card.yaml")


@pytest.mark.parametrize(("look", "name"), ALL, ids=lambda value: getattr(value, "__name__", value))
def test_every_built_in_card_names_itself_its_sources_and_its_doubts(look, name):
    card = look(name)

    assert card.name == name
    assert source_problems(card) == ()


@pytest.mark.parametrize("name", accelerator_names())
def test_no_built_in_accelerator_is_past_its_architecture(name):
    assert figure_problems(accelerator_card(name)) == ()


def test_every_architecture_with_a_ceiling_is_built_in():
    known = {accelerator_card(name).architecture for name in accelerator_names()}

    assert set(CEILINGS) == known - {"cpu"}


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"source": None}, "source"),
        ({"retrieved": None}, "retrieved"),
        ({"source": ["a data sheet (recalled)"]}, "unverified"),
        ({"source": ["assumed: like the H100"]}, "unverified"),
    ],
    ids=["no source", "no date", "recalled", "assumed"],
)
def test_a_card_must_say_where_its_figures_come_from(changes, key):
    assert [problem.key for problem in source_problems(accelerator(**changes))] == [key]


def test_a_card_that_lists_its_doubts_may_have_recalled_sources():
    card = accelerator(
        source=["a data sheet (recalled)"], unverified=["power_w", "dense_tflops.fp8"]
    )

    assert source_problems(card) == ()
    assert card.is_unverified("power_w")
    assert card.is_unverified("dense_tflops.fp8")
    assert not card.is_unverified("dense_tflops.bf16")
    assert not card.is_unverified("dense_tflops")


def test_a_doubt_about_a_field_covers_what_it_holds():
    assert accelerator(unverified=["dense_tflops"]).is_unverified("dense_tflops.bf16")


@pytest.mark.parametrize("path", ["power", "dense_tflops.fp4", "power_w.most", "prices.0"])
def test_a_doubt_about_what_the_card_does_not_hold_is_refused(path):
    with pytest.raises(InvalidFile, match=f"unverified names '{path}', which this card does not"):
        accelerator(unverified=[path])


def test_an_unknown_key_is_refused_with_the_nearest():
    with pytest.raises(InvalidFile, match=r"(?s)powr_w: unknown key.*did you mean 'power_w'"):
        accelerator(powr_w=700)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"dense_tflops": {"bf16": 989.4, "fp8": 3957.8}}, "fp8 3957.8 is more than twice bf16"),
        (
            {"further_dense_tflops": {"fp16": 989.4, "int8": 3957.8}},
            "int8 3957.8 is more than twice fp16",
        ),
        ({"memory_gib": 81}, "memory_gib 81 is more than memory_gb 80"),
    ],
    ids=["sparse fp8", "sparse int8", "decimal memory"],
)
def test_an_accelerator_that_contradicts_itself_is_refused(changes, text):
    with pytest.raises(InvalidFile, match=text):
        accelerator(**changes)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"dense_tflops": {"bf16": 1979.0, "fp8": 3957.8}}, "dense_tflops.bf16"),
        ({"scale_up_gb_per_s": 900}, "scale_up_gb_per_s"),
        ({"scale_up_gb_per_s": 3600}, "scale_up_gb_per_s"),
        ({"memory_bandwidth_tb_per_s": 26.8}, "memory_bandwidth_tb_per_s"),
    ],
    ids=["all rates sparse", "both directions", "links in bits", "memory in bits"],
)
def test_figures_past_every_device_of_the_architecture_are_refused(changes, key):
    assert [problem.key for problem in figure_problems(accelerator(**changes))] == [key]


def test_an_architecture_nobody_knows_is_taken_as_it_is():
    card = accelerator(architecture="mine", scale_up_gb_per_s=3600)

    assert figure_problems(card) == ()


def test_a_network_in_bytes_is_refused_by_its_adapters():
    with pytest.raises(InvalidFile, match=r"8 x 400 Gbit/s for 8 GPUs is 400; bits, not bytes"):
        cluster(network_gbit_per_s_per_gpu=50)


def test_a_network_that_is_not_its_adapters_is_refused():
    with pytest.raises(InvalidFile, match=r"125, but 4 x 200 Gbit/s for 8 GPUs is 100$"):
        cluster(network_gbit_per_s_per_gpu=125, nics={"model": "x", "count": 4, "gbit_per_s": 200})


def test_a_price_is_a_range_with_its_date_and_source():
    with pytest.raises(ValueError, match="low_usd 3 is above high_usd 2"):
        Price(market="m", low_usd=3, high_usd=2, as_of="2026", source="s")
    with pytest.raises(ValueError, match="as_of"):
        Price(market="m", low_usd=2, high_usd=3, as_of="lately", source="s")


def test_a_variable_is_given_or_asked_for_but_not_both():
    with pytest.raises(ValueError, match="NCCL_IB_HCA is both in env and in site"):
        EnvironmentCard(name="e", env={"NCCL_IB_HCA": "x"}, site={"NCCL_IB_HCA": "y"})


def run_with(card):
    fields = yaml.safe_load(RUN)
    fields["cluster"]["card"] = yaml.safe_load(card)
    return resolve(parse_run(yaml.safe_dump(fields), file="run.yaml"), file="run.yaml")


def test_an_inline_cluster_with_an_inline_accelerator_needs_no_catalog():
    text = changed(CLUSTER, accelerator=yaml.safe_load(H100), gpus_per_host=4, nics=None)

    machine = run_with(text).machine

    assert machine.world_size == 16
    assert machine.accelerator.name == "mine"
    assert machine.accelerator.retrieved == dt.date(2026, 11, 20)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (changed(CLUSTER, railz=8), r"cluster\.card\.railz: unknown key"),
        (changed(CLUSTER, fabric=None), r"cluster\.card\.fabric: is required and absent"),
        (
            changed(CLUSTER, accelerator="h100-80gb-sx"),
            r"(?s)cluster\.card\.accelerator: unknown accelerator.*did you mean 'h100-80gb-sxm'",
        ),
        (
            changed(CLUSTER, accelerator=yaml.safe_load(changed(H100, scale_up_gb_per_s=900))),
            r"cluster\.card\.accelerator\.scale_up_gb_per_s: 900 is more than any hopper device",
        ),
        (
            changed(CLUSTER, accelerator=yaml.safe_load(changed(H100, power_w="lots"))),
            r"cluster\.card\.accelerator\.power_w: 'lots': input should be a valid number",
        ),
    ],
    ids=["unknown key", "absent key", "unknown accelerator", "both directions", "no number"],
)
def test_an_inline_card_is_refused_at_its_place_in_the_run_file(text, message):
    with pytest.raises(InvalidFile, match=message):
        run_with(text)


@pytest.mark.parametrize("name", model_names())
def test_a_reference_training_nobody_read_is_marked(name):
    card = model_card(name)

    doubtful = any(word in card.reference_training.source for word in ("recalled", "assumed"))
    assert card.is_unverified("reference_training") == doubtful


@pytest.mark.parametrize(
    ("look", "name"),
    [
        *((cluster_card, name) for name in cluster_names()),
        *((accelerator_card, name) for name in accelerator_names()),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_prices_are_never_taken_for_verified(look, name):
    card = look(name)

    assert bool(card.prices) == card.is_unverified("prices")
