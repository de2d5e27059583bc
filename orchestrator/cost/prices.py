"""Seconds for a unit of each quantity, from a machine, its software and a calibration.

    seconds = bill . prices

A price is one over a rate: a share of the data sheet's peak, bandwidth or power that the
calibration holds. Everything that a fit may move is read here and nowhere else.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

import numpy as np

from orchestrator.cost.layer_bill import Bill
from orchestrator.cost.quantity import NUM_QUANTITIES, Quantity
from orchestrator.cost.software import MEGATRON, AttentionKernel, Graphs, MatmulFormat, Software
from orchestrator.cost.workload import Workload
from orchestrator.records.calibration import Calibration
from orchestrator.specs.choices import Precision
from orchestrator.units import TFLOP

TERABYTE = 1e12
REFERENCE_RELEASE = 2024.5
"""The year at which the trend of software is 1."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prices:
    """Seconds for a unit of each quantity, and what is no price of a unit.

    `*_exposed` are shares of an exchange that nothing hides however long computation is.
    `slowdown` multiplies everything a rank does.
    """

    unit: Bill
    launch_s: float
    cp_exposed: float
    dp_exposed: float
    gather_exposed: float
    step_s: float
    straggler: float
    slowdown: float


def prices_of(workload: Workload, calibration: Calibration) -> Prices:
    """Return the prices of a workload's machine and software."""
    of = _figures(workload, calibration)
    software = workload.software
    left = _graph_share(software, of)
    left *= of("host.eager") if software.is_eager else 1.0
    unit = np.zeros(NUM_QUANTITIES)
    _computation(unit, workload, calibration)
    _movement(unit, workload, calibration)
    unit[Quantity.LAYERS] = left * of("host.layer")
    unit[Quantity.MOE_LAYERS] = left * of("host.moe-layer")
    unit[Quantity.EXPERTS] = of("host.expert")
    return Prices(
        unit=unit,
        launch_s=left * of("host.launch"),
        cp_exposed=of("exposed.cp"),
        dp_exposed=of("exposed.dp"),
        gather_exposed=of("exposed.fsdp"),
        step_s=of("host.step"),
        straggler=of("straggler"),
        slowdown=slowdown_of(workload, calibration),
    )


def _figures(workload: Workload, calibration: Calibration) -> Callable[[str], float]:
    architecture = architecture_of(workload)
    return lambda name: calibration.value(name, architecture)


def slowdown_of(workload: Workload, calibration: Calibration) -> float:
    """Return the factor of a framework family and of the year of its release."""
    software = workload.software
    years = software.release - REFERENCE_RELEASE
    kind = "trend.moe" if workload.shape.experts else "trend.dense"
    trend = calibration.value(kind, architecture_of(workload))
    family = 1.0 if software.family == MEGATRON else calibration.family(software.family)
    return calibration.value("cluster") * family * math.exp(-trend * years)


def _graph_share(software: Software, of: Callable[[str], float]) -> float:
    """Return the share of host time that recorded graphs leave."""
    match software.graphs:
        case Graphs.NONE:
            return 1.0
        case Graphs.PARTIAL:
            return of("graphs.partial")
        case Graphs.FULL:
            return of("graphs.full")


def _computation(unit: Bill, workload: Workload, calibration: Calibration) -> None:
    of = _figures(workload, calibration)
    card = workload.accelerator
    wide_format = MatmulFormat.FP32 if workload.precision is Precision.FP32 else MatmulFormat.BF16
    rate = matmul_flop_per_s(workload, calibration, workload.matmul_format)
    wide = matmul_flop_per_s(workload, calibration, wide_format)
    memory = card.memory_bandwidth_tb_per_s * TERABYTE
    narrow = workload.matmul_format.is_narrow
    unit[Quantity.GEMM_FLOP] = 1 / rate
    unit[Quantity.WIDE_FLOP] = unit[Quantity.LOGIT_FLOP] = 1 / wide
    unit[Quantity.GEMM_BYTES] = of("traffic.gemm") / memory
    unit[Quantity.WIDE_BYTES] = unit[Quantity.LOGIT_BYTES] = of("traffic.gemm") / memory
    grouped = of("grouped") * (of("grouped.narrow") if narrow else 1.0)
    unit[Quantity.GROUPED_FLOP] = grouped / rate
    unit[Quantity.GROUPED_BYTES] = of("traffic.grouped") / memory
    unit[Quantity.ACCUMULATED_BYTES] = 1 / (of("memory") * memory)
    _attention(unit, workload, calibration, wide=wide, memory=memory)
    unit[Quantity.ELEMENT_BYTES] = of("elementwise") / memory
    unit[Quantity.PERMUTED_BYTES] = of("permute") / memory
    unit[Quantity.CAST_BYTES] = of("cast") / memory
    apart = 1.0 if workload.software.fuses_loss else of("loss.unfused")
    unit[Quantity.LOSS_BYTES] = apart * of("loss") / memory
    unit[Quantity.OPTIMIZER_BYTES] = 1 / (of("memory") * memory)


def _attention(
    unit: Bill,
    workload: Workload,
    calibration: Calibration,
    *,
    wide: float,
    memory: float,
) -> None:
    of = _figures(workload, calibration)
    kernel = workload.software.attention
    if kernel is AttentionKernel.UNFUSED:
        # Both triangles are multiplied, and the scores go through memory.
        unit[Quantity.ATTENTION_FLOP] = 2 / wide
        unit[Quantity.ATTENTION_ODD_FLOP] = 2 / wide * of("attention.odd")
        unit[Quantity.SCORE_BYTES] = of("scores") / memory
        return
    form = MatmulFormat.FP32 if workload.precision is Precision.FP32 else MatmulFormat.BF16
    peak = dense_peak(workload, form) * power_share(workload, calibration)
    share = of("attention")
    if kernel is not AttentionKernel.TUNED:
        share *= of(f"attention.{kernel}")
    price = 1 / (peak * share)
    unit[Quantity.ATTENTION_FLOP] = price
    unit[Quantity.ATTENTION_EDGE_FLOP] = price * of("attention.edge")
    unit[Quantity.ATTENTION_NARROW_FLOP] = price * of("attention.narrow")


def _movement(unit: Bill, workload: Workload, calibration: Calibration) -> None:
    of = _figures(workload, calibration)
    near = workload.fabric.scale_up_bytes_per_s * of("link.near")
    far = workload.fabric.network_bytes_per_s * of("link.far")
    call = of("link.call")
    unit[Quantity.TP_NEAR_BYTES], unit[Quantity.TP_FAR_BYTES] = 1 / near, 1 / far
    unit[Quantity.TP_CALLS] = call
    tp = of("exposed.tp")
    unit[Quantity.HIDDEN_TP_NEAR_BYTES], unit[Quantity.HIDDEN_TP_FAR_BYTES] = tp / near, tp / far
    unit[Quantity.HIDDEN_TP_CALLS] = tp * call
    unit[Quantity.CP_NEAR_BYTES], unit[Quantity.CP_FAR_BYTES] = 1 / near, 1 / far
    unit[Quantity.CP_CALLS] = call
    hides = workload.software.hides_experts
    ep = of("exposed.ep.hidden") if hides else of("exposed.ep")
    all_to_all = of("link.all-to-all")
    unit[Quantity.EP_NEAR_BYTES] = ep / (workload.fabric.scale_up_bytes_per_s * all_to_all)
    unit[Quantity.EP_FAR_BYTES] = ep / (workload.fabric.network_bytes_per_s * all_to_all)
    unit[Quantity.EP_CALLS] = ep * call
    pp = of("exposed.pp")
    unit[Quantity.PP_NEAR_BYTES], unit[Quantity.PP_FAR_BYTES] = 1 / near, 1 / far
    unit[Quantity.HIDDEN_PP_NEAR_BYTES], unit[Quantity.HIDDEN_PP_FAR_BYTES] = pp / near, pp / far
    unit[Quantity.PP_CALLS] = workload.fabric.network_latency_s
    unit[Quantity.GATHER_NEAR_BYTES], unit[Quantity.GATHER_FAR_BYTES] = 1 / near, 1 / far
    unit[Quantity.GATHER_CALLS] = call
    unit[Quantity.GRADIENT_NEAR_BYTES], unit[Quantity.GRADIENT_FAR_BYTES] = 1 / near, 1 / far
    unit[Quantity.PARAMETER_NEAR_BYTES], unit[Quantity.PARAMETER_FAR_BYTES] = 1 / near, 1 / far


def matmul_flop_per_s(workload: Workload, calibration: Calibration, form: MatmulFormat) -> float:
    """Return the rate that large matrix products reach in a format.

    Dense peak x share of the architecture and format x what the board's power limit leaves.
    """
    architecture = architecture_of(workload)
    known = f"gemm.{form}.{architecture}" in calibration.figures
    # TF32 is assumed to reach the share that BF16 does.
    named = MatmulFormat.BF16 if form is MatmulFormat.FP32 and not known else form
    share = calibration.value(f"gemm.{named}", architecture)
    return dense_peak(workload, form) * share * power_share(workload, calibration)


def power_share(workload: Workload, calibration: Calibration) -> float:
    """Return the share of its architecture's usual rate that a board reaches.

    (W / reference W) ^ exponent: products run at the clock that the power limit allows.
    Source: form assumed, exponent fitted (docs/cost-model.md). The second generation of
    Blackwell has a factor of its own, as its data sheet repeats the first one's peaks.
    """
    card = workload.accelerator
    reference = REFERENCE_POWER_W.get(card.architecture, 0.0)
    share = 1.0
    if reference and 0 < card.power_w < reference:
        share = float((card.power_w / reference) ** calibration.value("power"))
    if card.architecture == "blackwell-ultra":
        share *= calibration.value("gemm.ultra")
    return share


REFERENCE_POWER_W = {"ampere": 400.0, "hopper": 700.0, "blackwell": 1000.0}
"""Board power at which an architecture's shares were measured."""


def dense_peak(workload: Workload, form: MatmulFormat) -> float:
    """Return the data sheet's dense peak of a format, FLOP/s."""
    card = workload.accelerator
    rates = card.dense_tflops
    wide = rates.get(Precision.BF16) or max(rates.values())
    narrow = rates.get(Precision.FP8, wide)
    match form:
        case MatmulFormat.FP32:
            known = rates.get(Precision.FP32, wide)
        case MatmulFormat.BF16:
            known = wide
        case MatmulFormat.FP8 | MatmulFormat.MXFP8:
            known = narrow
        case MatmulFormat.NVFP4:
            # The second generation of Blackwell tells a peak that is for inference alone.
            known = min(card.further_dense_tflops.get("fp4", narrow), 2 * narrow)
        case _:
            assert_never(form)
    return known * TFLOP


def architecture_of(workload: Workload) -> str:
    """Return whose figures an accelerator has: both generations of Blackwell share theirs."""
    name = workload.accelerator.architecture
    return {"blackwell-ultra": "blackwell"}.get(name, name)
