"""Bytes of parameters, gradients and optimizer states on a rank, by precision and ZeRO stage.

Source: Rajbhandari et al. 2020 (ZeRO), section 5; Megatron's distributed optimizer is stage 1
with gradients in FP32.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import assert_never

from orchestrator.specs.choices import Precision
from orchestrator.specs.numerics import NumericsSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class StateBytes:
    """Bytes for each parameter: the working copy, its gradient, the optimizer's states."""

    parameter: float
    gradient: float
    optimizer: float


@dataclass(frozen=True, slots=True, kw_only=True)
class States:
    """Bytes of states on a rank; they sum to the total."""

    parameters_bytes: float
    gradients_bytes: float
    optimizer_bytes: float

    @property
    def total_bytes(self) -> float:
        """All states."""
        return self.parameters_bytes + self.gradients_bytes + self.optimizer_bytes


ZERO_PAPER = StateBytes(parameter=2, gradient=2, optimizer=12)
"""The ZeRO paper's mixed-precision Adam: gradients in 16 bits, K = 12."""


WIDTHS: Mapping[str, float] = MappingProxyType({"fp32": 4, "bf16": 2, "fp16": 2, "fp8": 1})
"""Bytes of a format."""

REMAINDER_BYTES = 2.0
"""A precision-aware optimizer keeps of an FP32 master what the BF16 weight does not say
(Megatron's `store_param_remainders`)."""


def state_bytes_of(precision: Precision, numerics: NumericsSpec | None = None) -> StateBytes:
    """Return Megatron's bytes for each parameter, with AdamW.

    BF16 and FP16: working copy 2, gradient 4 (FP32 accumulation; 2 in BF16), master copy 4 and two
    moments 8; narrower where a precision-aware optimizer keeps them so. FP8: the same, and two
    FP8 copies of each weight that Transformer Engine keeps between microbatches (as it is and
    transposed), or those alone where weights are kept narrow; assumed for all parameters, true
    of the matrices. FP32: the working copy is the master.
    """
    numerics = numerics or NumericsSpec()
    gradient = WIDTHS[numerics.gradients]
    moments = WIDTHS[numerics.first_moment] + WIDTHS[numerics.second_moment]
    master = WIDTHS[numerics.master_parameters]
    if numerics.is_precision_aware and numerics.master_parameters == "fp32":
        master = REMAINDER_BYTES
    match precision:
        case Precision.BF16 | Precision.FP16:
            return StateBytes(parameter=2, gradient=gradient, optimizer=master + moments)
        case Precision.FP8:
            wide = 4.0 if numerics.narrow_parameters else master
            parameter = 2 if numerics.narrow_parameters else 4
            return StateBytes(parameter=parameter, gradient=gradient, optimizer=wide + moments)
        case Precision.FP32:
            return StateBytes(parameter=4, gradient=gradient, optimizer=moments)
        case _:
            assert_never(precision)


def sharded_states(count: float, per: StateBytes, *, zero_stage: int, domain: int) -> States:
    """Return the bytes of `count` parameters over a sharding domain of `domain` ranks.

    Stage 1 divides the optimizer's states by the domain, 2 the gradients too, 3 all.
    Source: ZeRO, figure 1. Ignored: padding of buckets; what stage 3 gathers to compute is a
    working set, counted in `memory`.
    """
    return States(
        parameters_bytes=count * per.parameter / (domain if zero_stage >= 3 else 1),  # noqa: PLR2004
        gradients_bytes=count * per.gradient / (domain if zero_stage >= 2 else 1),  # noqa: PLR2004
        optimizer_bytes=count * per.optimizer / (domain if zero_stage >= 1 else 1),
    )
