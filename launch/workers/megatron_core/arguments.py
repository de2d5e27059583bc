"""The worker's JSON configuration (schema 1), as frozen dataclasses.

The file is written by `orchestrator.engines.megatron_core`. Reading it takes the standard library
alone, so that a wrong file is refused before torch is imported; `support` says what of a right one
this worker cannot run.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from launch.workers.closed_json import MalformedError, read_object
from orchestrator.errors import EngineRefused, Problem

ENGINE = "megatron-core"
SCHEMA = 1


class Activation(StrEnum):
    """The MLP's activation function."""

    GELU = "gelu"
    SILU = "silu"


class Normalization(StrEnum):
    """The layers' normalization, in Megatron's spelling."""

    LAYER_NORM = "LayerNorm"
    RMS_NORM = "RMSNorm"


class PositionEmbedding(StrEnum):
    """How positions are encoded."""

    LEARNED_ABSOLUTE = "learned_absolute"
    ROPE = "rope"


class Granularity(StrEnum):
    """How much of a layer is recomputed in the backward pass."""

    NONE = "none"
    SELECTIVE = "selective"
    FULL = "full"


class Precision(StrEnum):
    """The type of parameters and activations; optimizer state is fp32 in both."""

    FP32 = "fp32"
    BF16 = "bf16"


class DecayStyle(StrEnum):
    """The learning rate's shape after warm-up."""

    COSINE = "cosine"
    LINEAR = "linear"
    CONSTANT = "constant"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelArguments:
    """The model's dimensions; `padded_vocab_size` is what the embedding has.

    `moe` is kept as it is written: it is refused as a whole, so its keys have no meaning yet.
    """

    num_layers: int
    hidden_size: int
    ffn_hidden_size: int
    num_attention_heads: int
    num_query_groups: int
    head_dim: int
    vocab_size: int
    padded_vocab_size: int
    max_sequence_length: int
    gated_mlp: bool
    activation: Activation
    normalization: Normalization
    norm_epsilon: float
    position_embedding: PositionEmbedding
    rotary_base: int | None
    tied_embeddings: bool
    qkv_bias: bool
    linear_bias: bool
    qk_norm: bool
    init_std: float
    moe: dict[str, object] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ParallelArguments:
    """The layout; `vpp` counts model chunks per pipeline rank, 1 meaning no interleaving."""

    tp: int
    pp: int
    vpp: int
    cp: int
    ep: int
    etp: int
    sequence_parallel: bool
    microbatch_group_size: int | None
    zero_stage: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecomputeArguments:
    """What is recomputed: `modules` when selective, blocks of `layers` layers when full."""

    granularity: Granularity
    modules: tuple[str, ...]
    layers: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerArguments:
    """AdamW and its learning rate schedule, in steps."""

    learning_rate: float
    min_learning_rate: float
    warmup_steps: int
    decay_steps: int
    decay_style: DecayStyle
    beta1: float
    beta2: float
    epsilon: float
    weight_decay: float
    clip_grad: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingArguments:
    """Batch, length and precision; `global_batch_size` counts sequences."""

    sequence_length: int
    micro_batch_size: int
    global_batch_size: int
    steps: int
    precision: Precision
    seed: int
    hidden_dropout: float
    attention_dropout: float
    optimizer: OptimizerArguments


@dataclass(frozen=True, slots=True, kw_only=True)
class DataArguments:
    """The indexed corpus (`prefix`.bin and .idx), and where its sample indices are cached."""

    prefix: str
    cache_dir: str
    end_of_document: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointArguments:
    """How often a checkpoint is staged, besides at the last step."""

    interval_steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """Everything the worker needs to know that is not in its environment."""

    schema: int
    model: ModelArguments
    parallel: ParallelArguments
    recompute: RecomputeArguments
    training: TrainingArguments
    data: DataArguments
    checkpoint: CheckpointArguments

    def dp(self, world_size: int) -> int:
        """Data-parallel degree in a world of that many ranks."""
        return world_size // (self.parallel.tp * self.parallel.pp)

    def num_microbatches(self, world_size: int) -> int:
        """Microbatches one rank runs in a step."""
        return self.training.global_batch_size // (
            self.training.micro_batch_size * self.dp(world_size)
        )


def read_arguments(path: Path) -> Arguments:
    """The arguments in a file.

    Raises:
        EngineRefused: the file cannot be read, or is not of this schema; names every problem.
    """
    problems: Sequence[Problem]
    try:
        return read_object(Arguments, json.loads(path.read_bytes()))
    except OSError as error:
        problems = [Problem(key="", message=error.strerror or str(error))]
    except ValueError as error:
        problems = [Problem(key="", message=f"not JSON: {error}")]
    except MalformedError as error:
        problems = error.problems
    reason = "\n".join(f"{path}: {problem}" for problem in problems)
    raise EngineRefused(engine=ENGINE, reason=reason)
