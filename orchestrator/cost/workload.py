"""What is trained on what, reduced to the numbers that formulas read."""

from dataclasses import dataclass

from orchestrator.cost.efficiency import Efficiency, efficiency_of
from orchestrator.cost.shape import Shape, shape_of
from orchestrator.records.run import Machine, ResolvedRun
from orchestrator.specs.choices import Precision
from orchestrator.specs.cluster import AcceleratorCard
from orchestrator.units import GB, TFLOP, bytes_per_s_from_gbit_per_s

_MICROSECONDS = 1e-6
_TERABYTE = 1e12


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """One accelerator: the dense peak of its card, and the rates that are reached.

    `wide_matmul_flop_per_s` is for what FP8 leaves alone (logits, router): BF16, FP32 in FP32.
    """

    peak_flop_per_s: float
    matmul_flop_per_s: float
    wide_matmul_flop_per_s: float
    attention_flop_per_s: float
    memory_bytes: float
    memory_bytes_per_s: float
    efficiency: Efficiency


@dataclass(frozen=True, slots=True, kw_only=True)
class Fabric:
    """Links of one accelerator in one direction; `domain` ranks share the fast ones."""

    scale_up_bytes_per_s: float
    network_bytes_per_s: float
    network_latency_s: float
    domain: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Workload:
    """A model, a batch and a machine; everything but the layout. Compared by identity."""

    shape: Shape
    sequence: int
    global_batch_size: int
    precision: Precision
    vocab_padding_multiple: int
    hidden_dropout: float
    chip: Chip
    fabric: Fabric
    world_size: int

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

    def padded_vocab(self, tp: int) -> int:
        """Return the vocabulary rounded up to a multiple of the padding x tp (Megatron's rule)."""
        multiple = self.vocab_padding_multiple * tp
        return -(-self.shape.vocab // multiple) * multiple


def workload_of(run: ResolvedRun) -> Workload:
    """Return the numbers of a run."""
    training = run.training
    return Workload(
        shape=shape_of(run.model),
        sequence=training.sequence_length,
        global_batch_size=training.global_batch_size,
        precision=training.precision,
        vocab_padding_multiple=training.vocab_padding_multiple,
        hidden_dropout=training.hidden_dropout,
        chip=_chip_of(run.machine, precision=training.precision),
        fabric=_fabric_of(run.machine),
        world_size=run.machine.world_size,
    )


def peak_flop_per_s(accelerator: AcceleratorCard, precision: Precision) -> float:
    """Return the dense peak at a precision; BF16's where the card does not know it.

    A precision that the accelerator cannot run is refused by the rule `precision`.
    """
    rates = accelerator.dense_tflops
    known = rates.get(precision) or rates.get(Precision.BF16) or max(rates.values())
    return known * TFLOP


def _chip_of(machine: Machine, *, precision: Precision) -> Chip:
    card = machine.accelerator
    efficiency = efficiency_of(card.architecture)
    wide = Precision.FP32 if precision is Precision.FP32 else Precision.BF16
    peak, wide_peak = peak_flop_per_s(card, precision), peak_flop_per_s(card, wide)
    bandwidth = card.memory_bandwidth_tb_per_s * _TERABYTE
    return Chip(
        peak_flop_per_s=peak,
        matmul_flop_per_s=peak * efficiency.matmul_share(precision),
        wide_matmul_flop_per_s=wide_peak * efficiency.matmul_share(wide),
        attention_flop_per_s=wide_peak * efficiency.attention_share,
        memory_bytes=machine.memory_bytes,
        memory_bytes_per_s=bandwidth * efficiency.memory_share,
        efficiency=efficiency,
    )


def _fabric_of(machine: Machine) -> Fabric:
    cluster = machine.cluster
    return Fabric(
        scale_up_bytes_per_s=machine.accelerator.scale_up_gb_per_s * GB,
        network_bytes_per_s=bytes_per_s_from_gbit_per_s(cluster.network_gbit_per_s_per_gpu),
        network_latency_s=cluster.network_latency_us * _MICROSECONDS,
        domain=cluster.scale_up_domain_gpus,
    )
