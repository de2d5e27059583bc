"""What is to be trained: batch, length, precision, optimizer, evaluation."""

from typing import Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from orchestrator.specs.choices import (
    DecayStyle,
    Fp8Recipe,
    Precision,
    WsdDecayStyle,
)
from orchestrator.specs.closed import Closed
from orchestrator.specs.numerics import NumericsSpec


class OptimizerSpec(Closed):
    """AdamW and its learning-rate schedule: a linear warm-up, then a decay.

    The shapes are those of Megatron's OptimizerParamScheduler.
    """

    learning_rate: PositiveFloat = 3e-4
    min_learning_rate: NonNegativeFloat = 3e-5
    initial_learning_rate: NonNegativeFloat = Field(
        default=0.0, description="where the warm-up begins"
    )
    warmup_steps: int = Field(default=0, ge=0)
    warmup_fraction: float | None = Field(
        default=None, ge=0, lt=1, description="of decay_steps, instead of warmup_steps"
    )
    decay_steps: PositiveInt | None = Field(default=None, description="absent: to the last step")
    decay_style: DecayStyle = DecayStyle.COSINE
    wsd_decay_steps: PositiveInt | None = Field(
        default=None, description="with wsd: the last of decay_steps, in which the rate falls"
    )
    wsd_decay_style: WsdDecayStyle | None = Field(
        default=None, description="with wsd: how it falls; absent: exponential"
    )
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.95, ge=0, lt=1)
    epsilon: PositiveFloat = 1e-8
    weight_decay: NonNegativeFloat = 0.1
    clip_grad: PositiveFloat = 1.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("min_learning_rate", "initial_learning_rate"):
            if getattr(self, name) > self.learning_rate:
                msg = f"{name} {getattr(self, name)} is above learning_rate {self.learning_rate}"
                raise ValueError(msg)
        if self.warmup_steps and self.warmup_fraction is not None:
            msg = "give either warmup_steps or warmup_fraction"
            raise ValueError(msg)
        self._check_wsd()
        return self

    def _check_wsd(self) -> None:
        is_wsd = self.decay_style is DecayStyle.WSD
        if is_wsd and self.wsd_decay_steps is None:
            msg = "decay_style wsd needs wsd_decay_steps: how many last steps the rate falls in"
            raise ValueError(msg)
        given = [n for n in ("wsd_decay_steps", "wsd_decay_style") if getattr(self, n) is not None]
        if given and not is_wsd:
            msg = f"{' and '.join(given)} go with decay_style wsd, not {self.decay_style}"
            raise ValueError(msg)

    def decay_steps_of(self, steps: int) -> int:
        """Return the step at which the decay ends, in a run of so many steps."""
        return self.decay_steps or steps

    def warmup_steps_of(self, steps: int) -> int:
        """Return the steps of warm-up; a fraction is of the decay, as in Megatron, rounded down."""
        if self.warmup_fraction is None:
            return self.warmup_steps
        return int(self.warmup_fraction * self.decay_steps_of(steps))


class BatchPhaseSpec(Closed):
    """From some point on, a step has so many sequences.

    The phase begins with the first step before which at least that much was consumed, which is the
    rule of Megatron's `--step-batch-size-schedule`.
    """

    from_steps: NonNegativeInt | None = None
    from_samples: NonNegativeInt | None = None
    from_tokens: NonNegativeInt | None = None
    global_batch_size: PositiveInt = Field(le=100_000_000)

    @model_validator(mode="after")
    def _check(self) -> Self:
        starts = (self.from_steps, self.from_samples, self.from_tokens)
        if sum(start is not None for start in starts) != 1:
            msg = "give exactly one of from_steps, from_samples and from_tokens"
            raise ValueError(msg)
        return self


class EvaluationSpec(Closed):
    """Held-out loss: how often, and over how many global batches."""

    interval_steps: PositiveInt
    steps: PositiveInt = Field(default=10, description="global batches, the same each time")


class TrainingSpec(Closed):
    """One training run; its length is given in steps or in tokens."""

    sequence_length: PositiveInt = Field(le=100_000_000)
    global_batch_size: PositiveInt = Field(
        le=100_000_000, description="sequences in an optimizer step; with a ramp, at its end"
    )
    batch_ramp: tuple[BatchPhaseSpec, ...] = Field(
        default=(), description="batch sizes by phases, the first from 0, the last as above"
    )
    steps: PositiveInt | None = None
    tokens: PositiveInt | None = None
    precision: Precision = Precision.BF16
    fp8_recipe: Fp8Recipe | None = Field(
        default=None, description="with fp8; absent: by the accelerator"
    )
    seed: int = Field(default=1234, ge=0)
    vocab_padding_multiple: PositiveInt = Field(
        default=128, description="the vocabulary is padded to a multiple of this times tp"
    )
    hidden_dropout: float = Field(default=0.0, ge=0, lt=1)
    attention_dropout: float = Field(default=0.0, ge=0, lt=1)
    optimizer: OptimizerSpec = OptimizerSpec()
    numerics: NumericsSpec = NumericsSpec()
    evaluation: EvaluationSpec | None = Field(default=None, description="absent: none")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.steps is None) == (self.tokens is None):
            msg = "give either steps or tokens"
            raise ValueError(msg)
        if self.fp8_recipe is not None and self.precision is not Precision.FP8:
            msg = f"fp8_recipe {self.fp8_recipe} goes with precision fp8, not {self.precision}"
            raise ValueError(msg)
        if self.batch_ramp and self.batch_ramp[-1].global_batch_size != self.global_batch_size:
            msg = (
                f"batch_ramp ends with a global_batch_size of "
                f"{self.batch_ramp[-1].global_batch_size}, and global_batch_size is "
                f"{self.global_batch_size}: the two must be the same"
            )
            raise ValueError(msg)
        return self
