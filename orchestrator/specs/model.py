"""A model card: the architecture of a decoder-only transformer.

Field names follow Megatron-Core's TransformerConfig where one exists.
"""

import datetime as dt
import re
from typing import Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from orchestrator.specs.closed import Closed

_PATTERN_TERM = re.compile(r"\[([01](?:,[01])*)\](?:\*(\d+))?")


class MoeSpec(Closed):
    """The experts of a mixture-of-experts model."""

    num_experts: PositiveInt
    router_topk: PositiveInt
    moe_ffn_hidden_size: PositiveInt
    shared_expert_intermediate_size: int = Field(default=0, ge=0)
    layer_pattern: str = Field(
        default="[1]", description="1 = MoE layer, 0 = dense: '[0]*3+[1]*58'; repeated to the end"
    )
    router_dtype: Literal["bf16", "fp32"] = "fp32"
    score_function: Literal["softmax", "sigmoid"] = "softmax"
    aux_loss_coeff: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.router_topk > self.num_experts:
            msg = f"router_topk {self.router_topk} is more than num_experts {self.num_experts}"
            raise ValueError(msg)
        _pattern_of(self.layer_pattern)
        return self

    def is_moe_layer(self, layer: int) -> bool:
        """Return whether the 0-based decoder layer holds experts."""
        pattern = _pattern_of(self.layer_pattern)
        return bool(pattern[layer % len(pattern)])


class MlaSpec(Closed):
    """Multi-latent attention (DeepSeek): low-rank queries, keys and values."""

    q_lora_rank: PositiveInt | None = None
    kv_lora_rank: PositiveInt
    qk_nope_head_dim: PositiveInt
    qk_rope_head_dim: PositiveInt
    v_head_dim: PositiveInt


class Published(Closed):
    """What the publisher says of the model; a check on our count, never an input of it."""

    parameters_b: PositiveFloat
    active_parameters_b: PositiveFloat | None = None


class ReferenceTraining(Closed):
    """The training a model is known for; what `plan` assumes when the user says nothing."""

    sequence_length: PositiveInt
    global_batch_size: PositiveInt
    tokens: PositiveInt
    source: str


class ModelCard(Closed):
    """An architecture, with the sources of its numbers."""

    name: str = Field(min_length=1)
    family: str = ""
    num_layers: PositiveInt
    hidden_size: PositiveInt
    ffn_hidden_size: PositiveInt
    num_attention_heads: PositiveInt
    num_query_groups: PositiveInt
    head_dim: PositiveInt
    vocab_size: PositiveInt
    max_sequence_length: PositiveInt
    gated_mlp: bool
    activation: Literal["gelu", "silu"]
    normalization: Literal["LayerNorm", "RMSNorm"]
    norm_epsilon: PositiveFloat = 1e-5
    position_embedding: Literal["learned_absolute", "rope"]
    rotary_base: PositiveInt | None = None
    rope_scaling: dict[str, float | str] | None = None
    tied_embeddings: bool
    qkv_bias: bool
    linear_bias: bool
    qk_norm: bool = False
    mtp_num_layers: int = Field(default=0, ge=0)
    moe: MoeSpec | None = None
    mla: MlaSpec | None = None
    published: Published | None = None
    reference_training: ReferenceTraining | None = None
    source: tuple[str, ...] = ()
    retrieved: dt.date | None = None
    notes: str = ""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.num_attention_heads % self.num_query_groups:
            msg = (
                f"num_query_groups {self.num_query_groups} does not divide "
                f"num_attention_heads {self.num_attention_heads}"
            )
            raise ValueError(msg)
        if self.position_embedding == "rope" and self.rotary_base is None:
            msg = "position_embedding rope needs rotary_base"
            raise ValueError(msg)
        return self

    def is_moe_layer(self, layer: int) -> bool:
        """Return whether the 0-based decoder layer holds experts."""
        return self.moe is not None and self.moe.is_moe_layer(layer)


def _pattern_of(text: str) -> tuple[int, ...]:
    """Return the 0/1 pattern that `[0]*3+[1]*58` spells.

    Raises:
        ValueError: the text is not of that grammar.
    """
    pattern: list[int] = []
    for term in text.replace(" ", "").split("+"):
        match = _PATTERN_TERM.fullmatch(term)
        if match is None:
            msg = f"layer_pattern '{text}' is not like '[0]*3+[1]*58'"
            raise ValueError(msg)
        pattern += [int(digit) for digit in match[1].split(",")] * int(match[2] or 1)
    return tuple(pattern)
