"""Figures that the literature quotes and the model must reproduce, with their sources."""

from dataclasses import replace

import pytest

from orchestrator.catalog.cards import model_card
from orchestrator.catalog.resolve import resolve
from orchestrator.cost import budget
from orchestrator.cost.bills import layout_bill
from orchestrator.cost.flops import model_flop_per_step, training_s
from orchestrator.cost.memory import stage_state_bytes
from orchestrator.cost.parameters import active_parameters, total_parameters
from orchestrator.cost.quantity import Quantity
from orchestrator.cost.quote import price
from orchestrator.cost.shape import shape_of
from orchestrator.cost.states import ZERO_PAPER, StateBytes, sharded_states, state_bytes_of
from orchestrator.cost.workload import workload_of
from orchestrator.records.layout import Layout, Recompute
from orchestrator.records.run import ResolvedRun
from orchestrator.schedules.closed_forms import bubble_overhead
from orchestrator.specs.choices import OverlapAxis, Precision, RecomputeGranularity, ScheduleKind
from orchestrator.specs.cluster import ClusterSpec
from orchestrator.specs.numerics import NumericsSpec
from orchestrator.specs.run import RunSpec
from orchestrator.specs.training import TrainingSpec
from orchestrator.units import GB, SECONDS_PER_DAY

LLAMA_TOKENS = 15.6e12
LLAMA_HOURS = 30.84e6


def _run(model: str, cluster: str, *, gpus: int, sequence: int, batch: int) -> ResolvedRun:
    training = TrainingSpec(sequence_length=sequence, global_batch_size=batch, steps=1)
    spec = RunSpec(
        schema=1,
        name="x",
        model=model,
        cluster=ClusterSpec(card=cluster, gpus=gpus),
        training=training,
    )
    return resolve(spec, file="x")


def _llama_flop() -> float:
    return 6 * 405e9 * LLAMA_TOKENS


def test_175b_takes_34_days_on_1024_a100_with_full_recomputation():
    # Narayanan et al. 2021, section 5.1: 140 TFLOP/s, 300 B tokens, 8 N T / (n X).
    seconds = training_s(
        parameters=175e9, tokens=300e9, accelerators=1024, flop_per_s=140e12, passes=4
    )

    assert seconds / SECONDS_PER_DAY == pytest.approx(33.9, abs=0.05)


def test_175b_takes_25_days_without_recomputation():
    seconds = training_s(
        parameters=175e9, tokens=300e9, accelerators=1024, flop_per_s=140e12, passes=3
    )

    assert seconds / SECONDS_PER_DAY == pytest.approx(25.4, abs=0.05)


def test_175b_on_16_8_8_keeps_18_46_gb_of_states():
    # 8 x 8 ranks hold one copy, 16 share its optimizer: 2 + 4 + 12 / 16 bytes a parameter.
    states = sharded_states(175e9 / 64, state_bytes_of(Precision.BF16), zero_stage=1, domain=16)

    assert states.total_bytes / GB == pytest.approx(18.46, abs=0.005)


def test_175b_on_16_8_8_has_a_bubble_of_7_29_percent():
    overhead = bubble_overhead(ScheduleKind.ONE_F_ONE_B, pp=8, vpp=1, num_microbatches=96)

    assert overhead == pytest.approx(0.0729, abs=5e-5)


@pytest.mark.parametrize(
    ("stage", "gradient", "gigabytes"),
    [
        pytest.param(1, 4, 19.28, id="distributed optimizer, FP32 gradients"),
        pytest.param(1, 2, 12.95, id="ZeRO-1"),
        pytest.param(2, 2, 6.67, id="ZeRO-2"),
        pytest.param(3, 2, 0.40, id="ZeRO-3"),
    ],
)
def test_405b_on_tp8_pp16_dp128(stage: int, gradient: float, gigabytes: float):
    per = StateBytes(parameter=2, gradient=gradient, optimizer=12)
    states = sharded_states(405e9 / 128, per, zero_stage=stage, domain=128)

    assert states.total_bytes / GB == pytest.approx(gigabytes, abs=0.005)


@pytest.mark.parametrize(("stage", "gigabytes"), [(0, 120.0), (1, 31.41), (2, 16.64), (3, 1.88)])
def test_zero_on_7_5b_and_64_devices(stage: int, gigabytes: float):
    # Rajbhandari et al. 2020, figure 1.
    states = sharded_states(7.5e9, ZERO_PAPER, zero_stage=stage, domain=64)

    assert states.total_bytes / GB == pytest.approx(gigabytes, abs=0.005)


def test_a_batch_of_1024_sequences_of_4096_is_4_194_304_tokens():
    run = _run("llama-3.1-405b", "dgx-h100", gpus=16_384, sequence=4096, batch=1024)

    assert run.tokens_per_step == 4_194_304


def test_full_recomputation_is_a_third_more_compute():
    run = _run("gpt3-175b", "dgx-a100-80", gpus=1024, sequence=2048, batch=1536)
    layout = Layout(tp=8, pp=8, dp=16, sequence_parallel=True, schedule=ScheduleKind.ONE_F_ONE_B)
    full = Recompute(granularity=RecomputeGranularity.FULL)

    bill = layout_bill(workload_of(run), replace(layout, recompute=full))

    for quantity in (Quantity.GEMM_FLOP, Quantity.ATTENTION_FLOP, Quantity.ELEMENT_BYTES):
        work, again = bill.work[0, quantity], bill.again[0, quantity]
        assert again / work == pytest.approx(1 / 3)


def test_7b_on_1t_tokens_is_42_zettaflop():
    assert 6 * 7e9 * 1e12 == 42e21


def test_405b_hours_of_busy_charged_and_goodput_are_three_figures():
    # Llama 3: over 400 TFLOP/s and 30.84 M GPU-hours cannot both be of the same hours.
    flop = _llama_flop()

    busy = budget.busy_gpu_hours(flop=flop, flop_per_s=400e12)
    charged = budget.charged_flop_per_s(flop=flop, gpu_hours=LLAMA_HOURS)

    assert busy / 1e6 == pytest.approx(26.33, abs=0.01)
    assert charged / 1e12 == pytest.approx(341, abs=0.5)
    assert budget.goodput(busy_gpu_hours=busy, gpu_hours=LLAMA_HOURS) == pytest.approx(
        0.854, abs=0.001
    )
    assert budget.wall_days(gpu_hours=LLAMA_HOURS, accelerators=16_384) == pytest.approx(
        78.4, abs=0.05
    )


@pytest.mark.parametrize(("tflops", "mfu"), [(400, 0.404), (430, 0.435), (380, 0.384)])
def test_mfu_divides_by_the_dense_peak(tflops: float, mfu: float):
    run = _run("llama-3.1-405b", "dgx-h100", gpus=16_384, sequence=8192, batch=2048)

    assert tflops * 1e12 / workload_of(run).chip.peak_flop_per_s == pytest.approx(mfu, abs=5e-4)


def test_405b_at_400_tflops_steps_in_6_22_seconds():
    assert pytest.approx(6.22, abs=0.005) == 6 * 405e9 * 16_777_216 / (16_384 * 400e12)


def test_rent_of_405b():
    low, high = (budget.rent_usd(gpu_hours=LLAMA_HOURS, usd_per_hour=usd) for usd in (2, 3))

    assert (low / 1e6, high / 1e6) == pytest.approx((61.7, 92.5), abs=0.05)


def test_deepseek_v3_counts_active_parameters_in_flop_and_all_in_memory():
    shape = shape_of(model_card("deepseek-v3"))

    assert total_parameters(shape) / 1e9 == pytest.approx(671, abs=0.5)
    assert active_parameters(shape) / 1e9 == pytest.approx(37, abs=1)
    flop = model_flop_per_step(shape, sequence=4096, tokens=1)
    assert flop < 6 * 50e9
    hours = 2.788e6
    assert budget.wall_days(gpu_hours=hours, accelerators=2048) == pytest.approx(56.7, abs=0.05)
    assert budget.rent_usd(gpu_hours=hours, usd_per_hour=2) == pytest.approx(5.576e6)


def test_buying_is_another_question_than_renting():
    assert budget.capital_usd(accelerators=16_000, usd_each=30_000) == 480e6


def test_electricity_of_405b():
    gpu_only = budget.energy_kwh(gpu_hours=LLAMA_HOURS, watts=700)
    hosts = budget.energy_kwh(gpu_hours=LLAMA_HOURS, watts=10_200 / 8, overhead=1.1)

    assert gpu_only / 1e6 == pytest.approx(21.6, abs=0.05)
    assert hosts / 1e6 == pytest.approx(43.3, abs=0.1)
    assert 1.1 * gpu_only * 0.06 == pytest.approx(1.42e6, abs=0.01e6)


def test_carbon_of_405b():
    energy = budget.energy_kwh(gpu_hours=LLAMA_HOURS, watts=700)

    assert budget.carbon_t(energy_kwh=energy, grams_per_kwh=414) == pytest.approx(8930, abs=15)


def test_gradients_in_bf16_and_narrow_moments_free_what_they_say():
    usual = state_bytes_of(Precision.BF16)
    narrow = NumericsSpec(gradients="bf16", first_moment="bf16", second_moment="fp8")

    per = state_bytes_of(Precision.BF16, narrow)

    assert (usual.gradient, usual.optimizer) == (4, 12)
    # A precision-aware optimizer keeps the half of the master that the weight does not say.
    assert (per.parameter, per.gradient, per.optimizer) == (2, 2, 2 + 2 + 1)
    assert state_bytes_of(Precision.FP8, NumericsSpec(narrow_parameters=True)).parameter == 2
    assert state_bytes_of(Precision.FP8).parameter == 4


def test_numerics_of_a_run_reach_its_memory_and_its_links():
    run = _run("llama-3.1-405b", "dgx-h100", gpus=16_384, sequence=8192, batch=2048)
    bf16 = run.training.model_copy(update={"numerics": NumericsSpec(gradients="bf16")})
    layout = Layout(
        tp=8,
        pp=16,
        dp=128,
        vpp=8,
        microbatch_group_size=16,
        sequence_parallel=True,
        overlap=(OverlapAxis.DP, OverlapAxis.PP, OverlapAxis.TP),
        schedule=ScheduleKind.INTERLEAVED,
        stage_layout="E|(t|)*126,L",
    )

    wide, narrow = price(run, layout), price(replace(run, training=bf16), layout)

    assert narrow.memory.gradients_bytes == pytest.approx(wide.memory.gradients_bytes / 2)
    assert narrow.cost.dp_comm_s < wide.cost.dp_comm_s
    # The published layout fits with gradients in BF16 (Llama 3, table 4).
    assert narrow.memory.total_bytes < run.machine.memory_bytes
    assert sum(stage_state_bytes(workload_of(run), layout)) > 0
