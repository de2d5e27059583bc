"""Rates and where they come from, and what stands in for a chip nobody measured."""

from dataclasses import replace

import pytest

from orchestrator.catalog.calibration import built_in, calibration_of, text_of
from orchestrator.catalog.cards import accelerator_card, accelerator_names
from orchestrator.catalog.resolve import resolve
from orchestrator.cost.basis import basis_of, kind_of
from orchestrator.cost.fitting.parameters import DEFAULTS, PARAMETERS
from orchestrator.cost.prices import dense_peak, matmul_flop_per_s, power_share, prices_of
from orchestrator.cost.quantity import Quantity
from orchestrator.cost.software import AttentionKernel, Graphs, MatmulFormat, Software
from orchestrator.cost.workload import Workload, peak_flop_per_s, workload_of
from orchestrator.errors import InvalidFile
from orchestrator.records.calibration import Origin
from orchestrator.specs.choices import Precision
from orchestrator.specs.cluster import ClusterSpec
from orchestrator.specs.run import RunSpec
from orchestrator.specs.training import TrainingSpec


def _workload(cluster: str = "dgx-h100", precision: Precision = Precision.BF16) -> Workload:
    training = TrainingSpec(
        sequence_length=4096, global_batch_size=64, steps=1, precision=precision
    )
    spec = RunSpec(
        schema=1,
        name="x",
        model="llama-3.1-8b",
        cluster=ClusterSpec(card=cluster, hosts=8),
        training=training,
    )
    return workload_of(resolve(spec, file="x"))


@pytest.mark.parametrize("name", accelerator_names())
def test_every_accelerator_has_a_price_for_everything(name: str):
    workload = replace(_workload(), accelerator=accelerator_card(name))

    for kernel in AttentionKernel:
        for form in MatmulFormat:
            software = Software(attention=kernel)
            one = replace(workload, software=software, matmul_format=form)
            prices = prices_of(one, one.calibration)
            fused = kernel is not AttentionKernel.UNFUSED
            free = (
                {Quantity.SCORE_BYTES, Quantity.ATTENTION_ODD_FLOP}
                if fused
                else {
                    Quantity.ATTENTION_EDGE_FLOP,
                    Quantity.ATTENTION_NARROW_FLOP,
                }
            )
            free |= {Quantity.LAYERS} if name == "cpu-core" else set()
            assert {q for q in Quantity if prices.unit[q] == 0} == free


@pytest.mark.parametrize("cluster", ["dgx-h100", "dgx-a100-80", "dgx-b200", "gb200-nvl72"])
def test_products_never_beat_the_data_sheet(cluster: str):
    workload = _workload(cluster)

    for form in MatmulFormat:
        rate = matmul_flop_per_s(workload, workload.calibration, form)
        assert rate <= dense_peak(workload, form)


def test_a_chip_that_was_measured_says_fitted_and_gives_an_interval():
    basis = basis_of(_workload())

    assert basis.origin is Origin.FITTED
    assert basis.kind == "dense H100"
    low, high = basis.interval(10.0)
    assert low < 10.0 < high


@pytest.mark.parametrize("name", ["mi300x-192gb", "cpu-core"])
def test_a_chip_that_nobody_measured_says_default_and_gives_none(name: str):
    basis = basis_of(replace(_workload(), accelerator=accelerator_card(name)))

    assert basis.origin is Origin.DEFAULT
    assert basis.interval(10.0) is None


def test_fp8_on_a_chip_without_it_is_a_guess():
    workload = replace(_workload("dgx-a100-80"), matmul_format=MatmulFormat.FP8)

    assert basis_of(workload).origin is Origin.DEFAULT


def test_a_board_with_less_power_is_slower():
    workload = _workload()
    cooler = replace(
        workload, accelerator=workload.accelerator.model_copy(update={"power_w": 500.0})
    )

    assert power_share(workload, workload.calibration) == 1
    assert 0.7 < power_share(cooler, cooler.calibration) < 0.95


def test_recorded_graphs_leave_less_to_the_host():
    workload = _workload()

    prices = [
        prices_of(replace(workload, software=Software(graphs=graphs)), workload.calibration)
        for graphs in (Graphs.NONE, Graphs.PARTIAL, Graphs.FULL)
    ]

    hosts = [one.unit[Quantity.LAYERS] for one in prices]
    assert hosts == sorted(hosts, reverse=True)


def test_fp8_means_blocks_of_32_on_blackwell():
    assert _workload("dgx-b200", Precision.FP8).matmul_format is MatmulFormat.MXFP8
    assert _workload("dgx-h100", Precision.FP8).matmul_format is MatmulFormat.FP8


def test_experts_are_a_class_of_their_own():
    workload = _workload()

    assert kind_of(workload) == "dense H100"
    assert kind_of(replace(workload, shape=replace(workload.shape, experts=8))) == "MoE"


def test_every_parameter_and_default_is_in_the_built_in_calibration():
    names = {one.name for one in PARAMETERS} | set(DEFAULTS)

    assert set(built_in().figures) == names


def test_a_calibration_reads_back_as_it_was_written():
    again = calibration_of(text_of(built_in(), source=("x",)), file="again.yaml")

    assert again.figures == built_in().figures
    assert again.errors == built_in().errors


def test_a_users_calibration_stands_before_the_built_in_one():
    text = "name: mine\nfigures:\n  gemm.bf16.hopper: {value: 0.5, origin: fitted}\n"

    mine = calibration_of(text, file="mine.yaml")

    assert mine.value("gemm.bf16", "hopper") == 0.5
    assert mine.value("gemm.fp8", "hopper") == built_in().value("gemm.fp8", "hopper")


def test_a_calibration_with_an_unknown_origin_is_refused():
    text = "name: mine\nfigures:\n  gemm.bf16.hopper: {value: 0.5, origin: guessed}\n"

    with pytest.raises(InvalidFile, match=r"figures\.gemm\.bf16\.hopper\.origin"):
        calibration_of(text, file="mine.yaml")


def test_a_precision_without_a_rate_counts_as_bf16():
    card = accelerator_card("a100-80gb-sxm")
    bare = card.model_copy(update={"dense_tflops": {Precision.BF16: 312.0}})

    assert peak_flop_per_s(bare, Precision.FP32) == 312e12
