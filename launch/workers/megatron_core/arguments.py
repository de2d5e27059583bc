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
from launch.workers.megatron_core.programme import (
    BatchPhaseArguments,
    CheckpointArguments,
    DataArguments,
    EvaluationArguments,
    LoggingArguments,
    OptimizerArguments,
)
from orchestrator.errors import EngineRefused, Problem
from orchestrator.records.batch_ramp import BatchPhase, BatchRamp

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
    """The type of matrix products; gradients and optimizer state are fp32 in all of them."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP8 = "fp8"


class Fp8Recipe(StrEnum):
    """How FP8 tensors are scaled, in Megatron's spelling."""

    DELAYED = "delayed"
    TENSORWISE = "tensorwise"
    BLOCKWISE = "blockwise"
    MXFP8 = "mxfp8"


class Overlap(StrEnum):
    """A parallel axis whose communication hides behind computation."""

    DP = "dp"
    PP = "pp"


class CpCommType(StrEnum):
    """How Transformer Engine's attention moves keys and values; ours gathers them."""

    P2P = "p2p"
    ALL_GATHER = "allgather"
    ALL_TO_ALL = "a2a"


class RouterDtype(StrEnum):
    """The type in which a router chooses; bf16 is whatever the layers compute in."""

    BF16 = "bf16"
    FP32 = "fp32"


class RouterScore(StrEnum):
    """What makes weights of a router's logits."""

    SOFTMAX = "softmax"
    SIGMOID = "sigmoid"


class LoadBalancing(StrEnum):
    """What the auxiliary loss balances: a microbatch, each of its sequences, or nothing."""

    NONE = "none"
    AUX_LOSS = "aux_loss"
    SEQ_AUX_LOSS = "seq_aux_loss"


class TokenDispatcher(StrEnum):
    """How tokens reach their experts."""

    ALL_TO_ALL = "alltoall"
    ALL_GATHER = "allgather"


@dataclass(frozen=True, slots=True, kw_only=True)
class MoeArguments:
    """The experts; `layers` says of each decoder layer whether it has them (1) or is dense (0)."""

    num_experts: int
    router_topk: int
    ffn_hidden_size: int
    shared_expert_ffn_hidden_size: int | None
    layers: tuple[int, ...]
    router_dtype: RouterDtype
    router_score: RouterScore
    load_balancing: LoadBalancing
    aux_loss_coeff: float
    expert_bias_update_rate: float | None
    num_groups: int | None
    group_topk: int | None
    topk_scaling_factor: float | None
    apply_probs_on_input: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelArguments:
    """The model's dimensions; `padded_vocab_size` is what the embedding has.

    `rope_scaling_factor` is Llama 3's; the rest of that scaling Megatron holds fixed.
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
    rope_scaling_factor: float | None
    tied_embeddings: bool
    qkv_bias: bool
    linear_bias: bool
    qk_norm: bool
    init_std: float
    moe: MoeArguments | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ParallelArguments:
    """The layout; `vpp` counts model chunks per pipeline rank, 1 meaning no interleaving.

    `stage_layout` is Megatron's text (`E|(t|)*126,L`); null gives every stage the same layers.
    """

    tp: int
    pp: int
    vpp: int
    cp: int
    cp_comm_type: CpCommType | None
    ep: int
    etp: int
    sequence_parallel: bool
    microbatch_group_size: int | None
    stage_layout: str | None
    token_dispatcher: TokenDispatcher
    zero_stage: int
    overlap: tuple[Overlap, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecomputeArguments:
    """What is recomputed: `modules` when selective, the first `layers` (or all) when full."""

    granularity: Granularity
    modules: tuple[str, ...]
    layers: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingArguments:
    """Batch, length and precision; `global_batch_size` counts sequences, at the end of a ramp."""

    sequence_length: int
    micro_batch_size: int
    global_batch_size: int
    batch_ramp: tuple[BatchPhaseArguments, ...]
    steps: int
    precision: Precision
    fp8_recipe: Fp8Recipe | None
    seed: int
    hidden_dropout: float
    attention_dropout: float
    optimizer: OptimizerArguments
    evaluation: EvaluationArguments | None


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
    logging: LoggingArguments

    def dp(self, world_size: int) -> int:
        """Data-parallel degree in a world of that many ranks."""
        parallel = self.parallel
        return world_size // (parallel.tp * parallel.cp * parallel.pp)

    def num_microbatches(self, world_size: int, *, batch_size: int | None = None) -> int:
        """Microbatches one rank runs of a global batch; without one, of that at a ramp's end."""
        batch = self.training.global_batch_size if batch_size is None else batch_size
        return batch // (self.training.micro_batch_size * self.dp(world_size))

    def ramp(self) -> BatchRamp:
        """The batch size of each step."""
        phases = [BatchPhase(first_step=0, first_sample=0, global_batch_size=self._first_batch())]
        for given in self.training.batch_ramp[1:]:
            before = phases[-1]
            samples = (given.first_step - before.first_step) * before.global_batch_size
            phases.append(
                BatchPhase(
                    first_step=given.first_step,
                    first_sample=before.first_sample + samples,
                    global_batch_size=given.global_batch_size,
                )
            )
        return BatchRamp(phases=tuple(phases))

    def _first_batch(self) -> int:
        ramp = self.training.batch_ramp
        return ramp[0].global_batch_size if ramp else self.training.global_batch_size


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
