"""Measured rates of accelerators against their data sheets, as one table.

Keyed by the architecture that an accelerator's card names. Shares without a remark come from a
fit over 871 published training rows of 2021-2026 (A100, H100, Blackwell; see
docs/cost-model.md); values marked `assumed` come from nobody's measurement. An architecture
that is not in the table gets `UNKNOWN`, whose every number is assumed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import assert_never

from orchestrator.specs.choices import Precision
from orchestrator.units import GIB


class AttentionKernel(StrEnum):
    """Whether the [s, s] scores of attention are ever written to memory."""

    FUSED = "fused"
    UNFUSED = "unfused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Efficiency:
    """How much of its data sheet a chip gives, and what its host adds.

    `accuracy` says how far modelled step times were off (docs/cost-model.md has the rows; a test
    holds the two together). `*_matmul_share` are the rates of large matrix products over the
    dense peak of their precision; `attention_share` is causal attention, forward and backward,
    over the peak of BF16 (of FP32 in FP32). `link_share` and `all_to_all_share` are over one
    direction of a link.
    `kernels_per_layer` counts forward and backward of one layer.
    """

    source: str
    accuracy: str
    fp32_matmul_share: float
    bf16_matmul_share: float
    fp8_matmul_share: float
    attention_share: float
    attention_kernel: AttentionKernel = AttentionKernel.FUSED
    memory_share: float = 0.85
    link_share: float = 0.68
    all_to_all_share: float = 0.67
    kernels_per_layer: int = 60  # assumed; of 40, 60 the better on H100 rows
    kernel_tail_s: float = 6.5e-6
    kernel_launch_s: float = 7.4e-6
    moe_layer_host_s: float = 1.2e-3
    collective_latency_s: float = 21e-6
    step_host_s: float = 21e-3
    straggler_per_doubling: float = 0.004
    reserve_bytes: float = 2.0 * GIB  # assumed: context, NCCL buffers, workspaces

    def matmul_share(self, precision: Precision) -> float:
        """Return the share of the dense peak that large matrix products reach."""
        match precision:
            case Precision.FP32:
                return self.fp32_matmul_share
            case Precision.BF16:
                return self.bf16_matmul_share
            case Precision.FP8:
                return self.fp8_matmul_share
            case _:
                assert_never(precision)


_HOPPER = Efficiency(
    source="fit of 2026-11 over 366 dense H100 rows; FP32 (as TF32) assumed like BF16",
    accuracy="4.4% off on average on 18 published dense H100 rows; MoE not validated",
    fp32_matmul_share=0.71,
    bf16_matmul_share=0.71,
    fp8_matmul_share=0.66,
    attention_share=0.45,
)

_AMPERE = replace(
    _HOPPER,
    source="fit of 2026-11 over 288 dense A100 rows; FP32 (as TF32) assumed like BF16",
    accuracy="17.5% too fast on average on 5 published dense A100 rows; MoE not validated",
    fp32_matmul_share=0.845,
    bf16_matmul_share=0.845,
    fp8_matmul_share=0.845,
    attention_share=0.46,
)

_BLACKWELL = replace(
    _HOPPER,
    source="fit of 2026-11 over 66 dense B200/GB200 rows; FP32 (as TF32) assumed like BF16",
    accuracy="not validated on Blackwell",
    fp32_matmul_share=0.54,
    bf16_matmul_share=0.54,
    fp8_matmul_share=0.54,
    attention_share=0.42,
)

_CPU = Efficiency(
    source="FP32 rate measured, see the card; the rest assumed: plain torch operators, gloo",
    accuracy="uncalibrated: a CPU shows the mechanism, not the speed",
    fp32_matmul_share=1.0,
    bf16_matmul_share=0.7,
    fp8_matmul_share=0.7,
    attention_share=0.3,
    attention_kernel=AttentionKernel.UNFUSED,
    memory_share=0.5,
    link_share=0.5,
    all_to_all_share=0.5,
    kernels_per_layer=120,
    kernel_tail_s=0.0,
    kernel_launch_s=20e-6,
    collective_latency_s=300e-6,
    step_host_s=20e-3,
    straggler_per_doubling=0.05,
    reserve_bytes=0.5 * GIB,
)

UNKNOWN = replace(
    _HOPPER,
    source="assumed: no measured row of this architecture",
    accuracy="uncalibrated: no measured row of this architecture",
    fp32_matmul_share=0.6,
    bf16_matmul_share=0.6,
    fp8_matmul_share=0.5,
    attention_share=0.35,
)
"""What is taken for an architecture that nobody measured."""

BY_ARCHITECTURE: Mapping[str, Efficiency] = MappingProxyType(
    {"ampere": _AMPERE, "hopper": _HOPPER, "blackwell": _BLACKWELL, "cpu": _CPU}
)


def efficiency_of(architecture: str) -> Efficiency:
    """Return the rates of an architecture, `UNKNOWN` where it is not in the table."""
    return BY_ARCHITECTURE.get(architecture, UNKNOWN)
