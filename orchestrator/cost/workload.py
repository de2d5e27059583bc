"""What is trained on what, reduced to the numbers that formulas read."""

from dataclasses import dataclass
from typing import assert_never

from orchestrator.catalog.calibration import built_in
from orchestrator.cost.shape import Shape, shape_of
from orchestrator.cost.software import (
    DEFAULT_SOFTWARE,
    AttentionKernel,
    MatmulFormat,
    Software,
)
from orchestrator.cost.states import StateBytes, state_bytes_of
from orchestrator.records.calibration import Calibration
from orchestrator.records.run import Machine, ResolvedRun
from orchestrator.specs.choices import Fp8Recipe, Precision
from orchestrator.specs.cluster import AcceleratorCard
from orchestrator.units import GB, GIB, TFLOP, bytes_per_s_from_gbit_per_s

_MICROSECONDS = 1e-6

NARROW_BELOW_BYTES = 4.0
"""FP8 weights beside their BF16 originals take 4 bytes, alone 2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """One accelerator: the dense peak of its card at the run's precision, and its memory."""

    peak_flop_per_s: float
    memory_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Fabric:
    """Links of one accelerator in one direction; `domain` ranks share the fast ones."""

    scale_up_bytes_per_s: float
    network_bytes_per_s: float
    network_latency_s: float
    domain: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Workload:
    """A model, a batch and a machine; everything but the layout. Compared by identity.

    `offloaded_share` is the share of layers whose activations wait in host memory.
    """

    shape: Shape
    sequence: int
    global_batch_size: int
    precision: Precision
    vocab_padding_multiple: int
    hidden_dropout: float
    chip: Chip
    fabric: Fabric
    world_size: int
    accelerator: AcceleratorCard
    matmul_format: MatmulFormat
    calibration: Calibration
    states: StateBytes
    software: Software = DEFAULT_SOFTWARE
    offloaded_share: float = 0.0

    @property
    def tokens_per_step(self) -> int:
        """Tokens of one optimizer step."""
        return self.sequence * self.global_batch_size

    @property
    def element_bytes(self) -> float:
        """Bytes of a hidden element or a working parameter: BF16 (also beside FP8), or FP32."""
        return 4.0 if self.precision is Precision.FP32 else 2.0

    @property
    def input_bytes(self) -> float:
        """Bytes of a matrix product's saved input element: 1 in FP8, else as any element."""
        return 1.0 if self.precision is Precision.FP8 else self.element_bytes

    @property
    def gradient_bytes(self) -> float:
        """Bytes of a gradient as it is accumulated and reduced."""
        return self.states.gradient

    @property
    def gathered_bytes(self) -> float:
        """Bytes of a parameter as replicas gather it: 1 where weights are kept in FP8."""
        return 1.0 if self.keeps_narrow else self.element_bytes

    @property
    def keeps_narrow(self) -> bool:
        """Whether weights are kept in 8 bits."""
        return self.precision is Precision.FP8 and self.states.parameter < NARROW_BELOW_BYTES

    @property
    def keeps_scores(self) -> bool:
        """Whether attention writes its [s, s] scores to memory."""
        return keeps_scores(self.accelerator) or self.software.attention is AttentionKernel.UNFUSED

    @property
    def reserve_bytes(self) -> float:
        """What context, NCCL and workspaces take beside tensors."""
        architecture = self.accelerator.architecture
        return self.calibration.value("memory.reserve-gib", architecture) * GIB

    def padded_vocab(self, tp: int) -> int:
        """Return the vocabulary rounded up to a multiple of the padding x tp (Megatron's rule)."""
        multiple = self.vocab_padding_multiple * tp
        return -(-self.shape.vocab // multiple) * multiple


def workload_of(run: ResolvedRun, *, calibration: Calibration | None = None) -> Workload:
    """Return the numbers of a run; without a calibration, the built-in one's."""
    training, card = run.training, run.machine.accelerator
    return Workload(
        shape=shape_of(run.model),
        sequence=training.sequence_length,
        global_batch_size=training.global_batch_size,
        precision=training.precision,
        vocab_padding_multiple=training.vocab_padding_multiple,
        hidden_dropout=training.hidden_dropout,
        chip=Chip(
            peak_flop_per_s=peak_flop_per_s(card, training.precision),
            memory_bytes=run.machine.memory_bytes,
        ),
        fabric=_fabric_of(run.machine),
        world_size=run.machine.world_size,
        accelerator=card,
        matmul_format=matmul_format_of(card, training.precision, training.fp8_recipe),
        calibration=calibration or built_in(),
        states=state_bytes_of(training.precision, training.numerics),
    )


def matmul_format_of(
    accelerator: AcceleratorCard, precision: Precision, recipe: Fp8Recipe | None = None
) -> MatmulFormat:
    """Return the format of matrix products: FP8 in blocks of 32 (MX) where the chip has them."""
    match precision:
        case Precision.FP32:
            return MatmulFormat.FP32
        case Precision.BF16 | Precision.FP16:
            return MatmulFormat.BF16
        case Precision.FP8:
            has_blocks = (
                recipe is Fp8Recipe.MXFP8
                if recipe is not None
                else accelerator.architecture.startswith("blackwell")
            )
            return MatmulFormat.MXFP8 if has_blocks else MatmulFormat.FP8
        case _:
            assert_never(precision)


def keeps_scores(accelerator: AcceleratorCard) -> bool:
    """Return whether a device has no fused attention: true of CPUs."""
    return accelerator.architecture == "cpu"


def peak_flop_per_s(accelerator: AcceleratorCard, precision: Precision) -> float:
    """Return the dense peak at a precision; BF16's where the card does not know it.

    A precision that the accelerator cannot run is refused by the rule `precision`.
    """
    rates = accelerator.dense_tflops
    known = rates.get(precision) or rates.get(Precision.BF16) or max(rates.values())
    return known * TFLOP


def _fabric_of(machine: Machine) -> Fabric:
    cluster = machine.cluster
    return Fabric(
        scale_up_bytes_per_s=machine.accelerator.scale_up_gb_per_s * GB,
        network_bytes_per_s=bytes_per_s_from_gbit_per_s(cluster.network_gbit_per_s_per_gpu),
        network_latency_s=cluster.network_latency_us * _MICROSECONDS,
        domain=cluster.scale_up_domain_gpus,
    )
