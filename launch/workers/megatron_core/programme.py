"""The training programme's part of the worker's configuration: what happens step after step.

Batches, learning rate, data, evaluation and logging; `arguments` holds the rest and reads both.
"""

from dataclasses import dataclass
from enum import StrEnum


class DecayStyle(StrEnum):
    """The learning rate's shape after warm-up."""

    COSINE = "cosine"
    LINEAR = "linear"
    CONSTANT = "constant"
    INVERSE_SQUARE_ROOT = "inverse-square-root"
    WSD = "wsd"


class WsdDecayStyle(StrEnum):
    """How the rate falls at the end of warm-up, stable, decay."""

    EXPONENTIAL = "exponential"
    LINEAR = "linear"
    COSINE = "cosine"
    MINUS_SQRT = "minus-sqrt"


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerArguments:
    """AdamW and its learning rate schedule, in steps.

    With `wsd` the rate is constant until `wsd_decay_steps` before `decay_steps`.
    """

    learning_rate: float
    min_learning_rate: float
    initial_learning_rate: float
    warmup_steps: int
    decay_steps: int
    decay_style: DecayStyle
    wsd_decay_steps: int | None
    wsd_decay_style: WsdDecayStyle | None
    beta1: float
    beta2: float
    epsilon: float
    weight_decay: float
    clip_grad: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPhaseArguments:
    """From `first_step` steps on, a step has so many sequences."""

    first_step: int
    global_batch_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationArguments:
    """Held-out loss each `interval_steps`, over `steps` global batches, the same ones each time."""

    interval_steps: int
    steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceArguments:
    """An indexed corpus (`prefix`.bin and .idx) and its share of the samples."""

    prefix: str
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DataArguments:
    """What is read, how it is held apart for training and evaluation, where indices are cached.

    `split` is Megatron's: the shares of the documents for training, validation and test.
    """

    sources: tuple[SourceArguments, ...]
    split: str
    seed: int
    cache_dir: str
    end_of_document: int

    @property
    def prefixes(self) -> tuple[str, ...]:
        """The corpora's paths, without .bin."""
        return tuple(source.prefix for source in self.sources)

    def shares(self) -> tuple[float, float]:
        """The parts of the documents that are trained on and held out, of 1.

        Raises:
            ValueError: the split is not up to three numbers with a sum above 0.
        """
        numbers = [float(word) for word in self.split.split(",")]
        if len(numbers) > 3 or any(number < 0 for number in numbers) or not sum(numbers) > 0:  # noqa: PLR2004 - training, validation, test
            raise ValueError(self.split)
        numbers += [0.0] * (2 - len(numbers))
        return numbers[0] / sum(numbers), numbers[1] / sum(numbers)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointArguments:
    """How often a checkpoint is staged, besides at the last step."""

    interval_steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggingArguments:
    """How often a step is written to the log, and where TensorBoard's files go, if anywhere."""

    interval_steps: int
    tensorboard_dir: str | None
