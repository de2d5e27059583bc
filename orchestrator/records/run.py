"""A run file whose names are looked up and whose derived numbers are known."""

from dataclasses import dataclass

from orchestrator.records.batch_ramp import ramp_of
from orchestrator.records.layout import Layout
from orchestrator.specs.cluster import AcceleratorCard, ClusterCard
from orchestrator.specs.model import ModelCard
from orchestrator.specs.run import RunSpec
from orchestrator.specs.training import TrainingSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The hosts of a run: equal, `gpus_per_host` accelerators each, `world_size` ranks in all."""

    cluster: ClusterCard
    accelerator: AcceleratorCard
    hosts: int
    gpus_per_host: int
    spares: int = 0

    @property
    def world_size(self) -> int:
        """Ranks, one for each accelerator in use."""
        return self.hosts * self.gpus_per_host

    @property
    def memory_bytes(self) -> float:
        """Memory of one accelerator that a program can use."""
        return self.accelerator.memory_gib * 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedRun:
    """What is trained, on what; `layout` is None where it is to be planned.

    `padded_vocab_size` is not here: it depends on tp, hence on the layout.
    """

    spec: RunSpec
    model: ModelCard
    machine: Machine
    training: TrainingSpec
    steps: int
    layout: Layout | None

    @property
    def name(self) -> str:
        """The run's name."""
        return self.spec.name

    @property
    def tokens_per_step(self) -> int:
        """Tokens of one optimizer step, at the end of a batch ramp: global batch x sequence."""
        return self.training.global_batch_size * self.training.sequence_length

    @property
    def tokens(self) -> int:
        """Tokens of the whole run; the last step may go past a token budget."""
        return ramp_of(self.training).samples_after(self.steps) * self.training.sequence_length


def padded_vocab_size(model: ModelCard, training: TrainingSpec, *, tp: int) -> int:
    """Return the vocabulary rounded up to a multiple of `vocab_padding_multiple` x tp.

    Megatron's rule (`--make-vocab-size-divisible-by`), so the embedding's shape depends on tp.
    """
    multiple = training.vocab_padding_multiple * tp
    return -(-model.vocab_size // multiple) * multiple
