"""What is to be trained: batch, length, precision, optimizer."""

from typing import Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from orchestrator.specs.choices import Precision
from orchestrator.specs.closed import Closed


class OptimizerSpec(Closed):
    """AdamW and its learning-rate schedule (linear warm-up, then a decay)."""

    learning_rate: PositiveFloat = 3e-4
    min_learning_rate: NonNegativeFloat = 3e-5
    warmup_steps: int = Field(default=0, ge=0)
    decay_steps: PositiveInt | None = Field(default=None, description="absent: to the last step")
    decay_style: Literal["cosine", "linear", "constant"] = "cosine"
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.95, ge=0, lt=1)
    epsilon: PositiveFloat = 1e-8
    weight_decay: NonNegativeFloat = 0.1
    clip_grad: PositiveFloat = 1.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min_learning_rate > self.learning_rate:
            msg = (
                f"min_learning_rate {self.min_learning_rate} is above "
                f"learning_rate {self.learning_rate}"
            )
            raise ValueError(msg)
        return self


class TrainingSpec(Closed):
    """One training run; its length is given in steps or in tokens."""

    sequence_length: PositiveInt = Field(le=100_000_000)
    global_batch_size: PositiveInt = Field(
        le=100_000_000, description="sequences in an optimizer step"
    )
    steps: PositiveInt | None = None
    tokens: PositiveInt | None = None
    precision: Precision = Precision.BF16
    seed: int = Field(default=1234, ge=0)
    vocab_padding_multiple: PositiveInt = Field(
        default=128, description="the vocabulary is padded to a multiple of this times tp"
    )
    hidden_dropout: float = Field(default=0.0, ge=0, lt=1)
    attention_dropout: float = Field(default=0.0, ge=0, lt=1)
    optimizer: OptimizerSpec = OptimizerSpec()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.steps is None) == (self.tokens is None):
            msg = "give either steps or tokens"
            raise ValueError(msg)
        return self
