"""The software that trains, as far as it changes how fast the same layout runs."""

from dataclasses import dataclass
from enum import StrEnum


class AttentionKernel(StrEnum):
    """What computes scores, softmax and values.

    `TUNED` is the vendor's or Flash Attention of its day, `TRITON` the first Triton kernels,
    `PYTORCH` torch's own operator; `UNFUSED` writes the [s, s] scores to memory.
    """

    TUNED = "tuned"
    TRITON = "triton"
    PYTORCH = "pytorch"
    UNFUSED = "unfused"


class Graphs(StrEnum):
    """How much of a step the host launches as recorded CUDA graphs."""

    NONE = "none"
    PARTIAL = "partial"
    FULL = "full"


class MatmulFormat(StrEnum):
    """Number format of the layers' matrix products."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP8 = "fp8"
    MXFP8 = "mxfp8"
    NVFP4 = "nvfp4"

    @property
    def is_narrow(self) -> bool:
        """Whether inputs are cast before each product."""
        return self not in {MatmulFormat.FP32, MatmulFormat.BF16}


NEWEST_RELEASE = 2026.5
"""The release that a plan is priced for where nobody says one."""

MEGATRON = "megatron-core"
"""The framework family that NeMo, Megatron-Bridge and Megatron-LM share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Software:
    """A framework family, when it was released (a year, with its part), and its switches.

    `fuses_loss`: softmax and loss are one kernel that keeps no FP32 copies; `hides_experts`: the
    experts' exchange runs beside other microbatches' computation; `sends_once`: a token goes to
    a host once, however many of its experts are there (DeepEP, HybridEP); `is_eager`: operators
    are started one by one, without fusing or recording.
    """

    family: str = MEGATRON
    release: float = NEWEST_RELEASE
    attention: AttentionKernel = AttentionKernel.TUNED
    graphs: Graphs = Graphs.NONE
    fuses_loss: bool = True
    hides_experts: bool = False
    sends_once: bool = False
    is_eager: bool = False


DEFAULT_SOFTWARE = Software()
"""The newest Megatron, nothing recorded: what plans are priced for."""
