"""The numbers that a fit moves: what each means, what an engineer would guess, how far to move it.

All are positive; a fit works on their logarithms. `spread` is the standard deviation of the
guess, in logarithms: 0.1 says that 10 % off would not surprise. A prior of nobody's measurement
is an assumption, and `default` stands beside a value that no row has moved.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A named number with its prior; `is_signed` ones are fitted as they are, not as logarithms."""

    name: str
    prior: float
    spread: float
    meaning: str
    is_signed: bool = False

    def to_free(self, value: float) -> float:
        """Return the coordinate that a fit moves: 0 at the prior, 1 a standard deviation off."""
        if self.is_signed:
            return (value - self.prior) / self.spread
        return math.log(value / self.prior) / self.spread

    def from_free(self, free: float) -> float:
        """Return the value at a coordinate."""
        if self.is_signed:
            return self.prior + free * self.spread
        return self.prior * math.exp(free * self.spread)


def _p(name: str, prior: float, spread: float, meaning: str) -> Parameter:
    return Parameter(name=name, prior=prior, spread=spread, meaning=meaning)


PARAMETERS: tuple[Parameter, ...] = (
    _p("gemm.bf16.ampere", 0.84, 0.08, "share of the dense peak, large products"),
    _p("gemm.bf16.hopper", 0.72, 0.08, "share of the dense peak, large products"),
    _p("gemm.fp8.hopper", 0.65, 0.10, "share of the dense peak, large products"),
    _p("gemm.bf16.blackwell", 0.62, 0.12, "share of the dense peak, large products"),
    _p("gemm.fp8.blackwell", 0.55, 0.12, "share of the dense peak, large products"),
    _p("gemm.mxfp8.blackwell", 0.55, 0.12, "share of the dense peak, large products"),
    _p("gemm.nvfp4.blackwell", 0.45, 0.15, "share of the dense peak, large products"),
    _p("gemm.ultra", 1.15, 0.08, "B300 and GB300 over B200 and GB200, by power"),
    _p("power", 0.4, 0.5, "exponent of board power below the architecture's usual"),
    _p("traffic.gemm", 0.25, 0.6, "bytes of operands at HBM rate that products do not hide"),
    _p("traffic.grouped", 0.7, 0.6, "the same for products grouped by expert"),
    _p("grouped", 1.15, 0.1, "time of grouped over plain products"),
    _p("grouped.narrow", 1.1, 0.1, "the same again in narrow formats"),
    _p("attention.ampere", 0.50, 0.15, "share of the BF16 peak, causal FLOPs, both ways"),
    _p("attention.hopper", 0.50, 0.15, "share of the BF16 peak, causal FLOPs, both ways"),
    _p("attention.blackwell", 0.45, 0.15, "share of the BF16 peak, causal FLOPs, both ways"),
    _p("attention.triton.ampere", 0.70, 0.2, "first Triton kernels over tuned ones"),
    _p("attention.triton.hopper", 0.45, 0.3, "first Triton kernels over tuned ones"),
    _p("attention.pytorch.hopper", 0.57, 0.2, "torch's operator over tuned kernels"),
    _p("attention.edge", 128.0, 0.6, "tokens of a block on the diagonal, computed whole"),
    _p("attention.narrow", 0.3, 0.5, "slowdown by 128 / d - 1 for head dims below 128"),
    _p("attention.odd", 6.0, 0.5, "slowdown of unfused products with odd head dims, less 1"),
    _p("scores", 1.3, 0.3, "bytes of unfused scores at HBM rate"),
    _p("elementwise", 1.8, 0.25, "bytes of element-wise kernels at HBM rate"),
    _p("permute", 1.2, 0.4, "bytes of sorting tokens by expert at HBM rate"),
    _p("cast", 1.2, 0.4, "bytes of casts at HBM rate"),
    _p("loss", 1.2, 0.4, "bytes of the loss at HBM rate"),
    _p("loss.unfused", 2.0, 0.3, "bytes of a loss in several kernels over a fused one"),
    _p("memory", 0.85, 0.05, "share of HBM bandwidth of plain copies"),
    _p("link.near", 0.70, 0.15, "share of a scale-up link"),
    _p("link.far", 0.75, 0.06, "share of a network adapter"),
    _p("link.all-to-all", 0.65, 0.2, "share of a link in all-to-all"),
    _p("link.call", 20e-6, 0.4, "seconds of a collective beside its bytes"),
    _p("exposed.tp", 0.30, 0.3, "share of overlapped tp collectives that shows"),
    _p("exposed.cp", 0.20, 0.5, "share of the ring's exchange that shows"),
    _p("exposed.ep", 0.85, 0.15, "share of expert exchange that shows"),
    _p("exposed.ep.hidden", 0.25, 0.5, "the same with expert overlap"),
    _p("exposed.pp", 0.45, 0.5, "share of interleaved sends that shows"),
    _p("exposed.dp", 0.20, 0.5, "share of overlapped gradients and parameters that shows"),
    _p("exposed.fsdp", 0.25, 0.5, "share of overlapped gathers that shows"),
    _p("host.layer", 350e-6, 0.4, "seconds of kernel tails in a layer, both ways"),
    _p("host.launch", 450e-6, 0.4, "seconds of launches in a layer, both ways: a floor"),
    _p("host.eager", 1.3, 0.3, "host time of eager frameworks over fused ones"),
    _p("host.moe-layer", 1.0e-3, 0.5, "seconds more in a layer with experts"),
    _p("host.expert", 40e-6, 0.5, "seconds of tails of an expert's products"),
    _p("host.step", 20e-3, 0.5, "seconds of a step beside everything"),
    _p("graphs.partial", 0.7, 0.3, "host time left by graphs of some modules"),
    _p("graphs.full", 0.4, 0.3, "host time left by graphs of whole iterations"),
    _p("straggler", 0.004, 0.5, "share of the step for each doubling of ranks"),
    Parameter(
        name="trend.dense",
        prior=0.03,
        spread=0.03,
        meaning="software gets faster by this share a year",
        is_signed=True,
    ),
    Parameter(
        name="trend.moe",
        prior=0.06,
        spread=0.05,
        meaning="the same for mixtures of experts",
        is_signed=True,
    ),
    _p("family.other", 1.08, 0.08, "step time of frameworks nobody measured"),
    _p("family.maxtext", 1.0, 0.08, "step time over Megatron-Core's of the year"),
    _p("family.llm-foundry", 1.0, 0.08, "step time over Megatron-Core's of the year"),
    _p("family.torchtitan", 1.05, 0.08, "step time over Megatron-Core's of the year"),
    _p("family.internevo", 1.08, 0.08, "step time over Megatron-Core's of the year"),
    _p("family.pax", 1.08, 0.08, "step time over Megatron-Core's of the year"),
    _p("family.megatron-deepspeed", 1.08, 0.08, "step time over Megatron-Core's of the year"),
    _p("family.zero-bubble", 1.08, 0.08, "step time over Megatron-Core's of the year"),
    _p("family.megascale", 1.0, 0.08, "step time over Megatron-Core's of the year"),
    _p("family.hai-llm", 1.0, 0.08, "step time over Megatron-Core's of the year"),
    _p("family.automodel", 1.05, 0.08, "step time over Megatron-Core's of the year"),
)
"""Every number a fit may move."""


CLUSTER = Parameter(
    name="cluster",
    prior=1.0,
    spread=0.1,
    meaning="step time of one cluster over the published ones'",
)
"""One factor on everything a rank does: what a user's own rows move first."""

DEFAULTS: Mapping[str, float] = MappingProxyType(
    {
        "cluster": 1.0,
        # FP32 on GPUs means TF32, assumed to reach what BF16 does; formats a chip lacks, as on
        # the next one that has them.
        "gemm.fp32.unknown": 0.60,
        "gemm.bf16.unknown": 0.60,
        "gemm.fp8.unknown": 0.50,
        "gemm.mxfp8.unknown": 0.50,
        "gemm.nvfp4.unknown": 0.40,
        "attention.unknown": 0.35,
        "attention.triton.unknown": 0.60,
        "attention.pytorch.unknown": 0.57,
        "memory.reserve-gib": 2.0,
        # A CPU shows the mechanism, not the speed: plain operators, gloo. Its FP32 rate is
        # measured (see the card), the rest assumed.
        "gemm.fp32.cpu": 1.0,
        "gemm.bf16.cpu": 0.7,
        "gemm.fp8.cpu": 0.7,
        "attention.cpu": 0.3,
        "elementwise.cpu": 3.1,
        "permute.cpu": 1.4,
        "cast.cpu": 2.0,
        "loss.cpu": 2.0,
        "memory.cpu": 0.5,
        "link.near.cpu": 0.5,
        "link.far.cpu": 0.5,
        "link.all-to-all.cpu": 0.5,
        "link.call.cpu": 300e-6,
        "host.layer.cpu": 0.0,
        "host.launch.cpu": 2.4e-3,
        "host.step.cpu": 20e-3,
        "straggler.cpu": 0.05,
        "trend.dense.cpu": 0.0,
        "trend.moe.cpu": 0.0,
        "memory.reserve-gib.cpu": 0.5,
    }
)
"""Figures that no fit moves: what stands in for chips nobody measured, and for CPUs."""
