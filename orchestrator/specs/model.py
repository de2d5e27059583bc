"""A model card: the architecture of a decoder-only transformer.

Field names follow Megatron-Core's TransformerConfig where one exists.
"""

from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, PositiveFloat, PositiveInt, Tag, model_validator

from orchestrator.specs.card import CARD_TAG, NAME_TAG, Card, tag_of
from orchestrator.specs.closed import Closed, Depth, Size
from orchestrator.specs.layers import MoeSpec, WindowSpec

SPECIAL_FIELDS = (
    *("layernorm_zero_centered_gamma", "post_norms", "parallel_attention", "rotary_base_local"),
    *("rope_scaling", "nope_layer_interval", "window", "attention_sinks"),
    *("attention_logit_softcap", "final_logit_softcap", "qk_l2_norm", "activation_clamp"),
    *("glu_linear_offset", "mtp_num_layers", "moe", "mla"),
)
"""What a plain transformer has not; an engine must honour each, or refuse the model."""

Activation = Literal["gelu", "gelu_tanh", "quick_gelu", "silu", "squared_relu"]


class MlaSpec(Closed):
    """Multi-latent attention (DeepSeek): low-rank queries, keys and values."""

    q_lora_rank: Size | None = Field(default=None, description="absent: no query latent")
    kv_lora_rank: Size
    qk_nope_head_dim: Size
    qk_rope_head_dim: Size
    v_head_dim: Size


class Published(Closed):
    """What the publisher says of the model; a check on our count, never an input of it."""

    parameters_b: PositiveFloat = Field(description="billions (10^9), as printed")
    active_parameters_b: PositiveFloat | None = None
    includes: tuple[Literal["mtp", "vision"], ...] = Field(
        default=(), description="what the total counts beside the decoder"
    )
    active_leaves_out: tuple[Literal["embedding", "output"], ...] = Field(
        default=(), description="what the active count does not count"
    )
    checkpoint_parameters: PositiveInt | None = Field(
        default=None, description="elements of the published checkpoint, to the last one"
    )


class ReferenceTraining(Closed):
    """The training a model is known for; what `plan` assumes when the user says nothing."""

    sequence_length: PositiveInt
    global_batch_size: PositiveInt = Field(description="sequences")
    tokens: PositiveInt
    source: str


class ModelCard(Card):
    """An architecture, with the sources of its numbers."""

    family: str = ""
    num_layers: Depth = Field(description="decoder layers, without multi-token prediction")
    hidden_size: Size = Field(description="width of the hidden state")
    ffn_hidden_size: Size = Field(description="width of a dense layer's MLP")
    num_attention_heads: Size
    num_query_groups: Size = Field(description="heads of keys and values")
    head_dim: Size = Field(description="width of one head (Megatron's kv_channels)")
    vocab_size: Size = Field(description="tokens, before padding")
    max_sequence_length: Size = Field(description="longest context it was made for")
    gated_mlp: bool = Field(description="the MLP has a gate: three matrices instead of two")
    activation: Activation
    normalization: Literal["LayerNorm", "RMSNorm"]
    norm_epsilon: PositiveFloat = 1e-5
    layernorm_zero_centered_gamma: bool = Field(default=False, description="gains stored minus 1")
    post_norms: bool = Field(
        default=False, description="norms after attention and MLP too, beside those before them"
    )
    parallel_attention: bool = Field(
        default=False, description="attention and MLP read the same input, side by side"
    )
    position_embedding: Literal["learned_absolute", "rope"]
    rotary_base: PositiveInt | None = None
    rotary_base_local: PositiveInt | None = Field(
        default=None, description="of windowed layers, where it differs"
    )
    rotary_percent: float = Field(default=1.0, gt=0, le=1, description="share of a head rotated")
    rope_scaling: dict[str, float | str] | None = None
    nope_layer_interval: PositiveInt | None = Field(
        default=None, description="every n-th layer has no positions at all"
    )
    window: WindowSpec | None = Field(default=None, description="layers that look back less far")
    attention_sinks: bool = Field(
        default=False, description="a learned number a head joins the softmax"
    )
    attention_logit_softcap: PositiveFloat | None = None
    final_logit_softcap: PositiveFloat | None = None
    tied_embeddings: bool = Field(description="the output matrix is the embedding")
    qkv_bias: bool
    linear_bias: bool = Field(
        description="biases in all other matrices, and in the router of an MoE layer"
    )
    qk_norm: bool = Field(default=False, description="queries and keys (or latents) are normed")
    qk_l2_norm: bool = Field(default=False, description="the same without learned gains")
    activation_clamp: PositiveFloat | None = None
    glu_linear_offset: PositiveFloat | None = Field(default=None, description="added to the gate")
    init_std: PositiveFloat = Field(
        default=0.02, description="standard deviation of the initial weights"
    )
    mtp_num_layers: int = Field(
        default=0, ge=0, le=100, description="depths of multi-token prediction"
    )
    moe: MoeSpec | None = None
    mla: MlaSpec | None = None
    published: Published | None = None
    reference_training: ReferenceTraining | None = None

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

    def special_fields(self) -> tuple[str, ...]:
        """Return which of `SPECIAL_FIELDS` the model uses, and `rotary_percent` below 1."""
        partial = ("rotary_percent",) if self.rotary_percent < 1 else ()
        return (*(name for name in SPECIAL_FIELDS if getattr(self, name)), *partial)

    def is_moe_layer(self, layer: int) -> bool:
        """Return whether the 0-based decoder layer holds experts."""
        return self.moe is not None and self.moe.is_moe_layer(layer)

    def is_windowed_layer(self, layer: int) -> bool:
        """Return whether the 0-based decoder layer looks back through a window alone."""
        return self.window is not None and self.window.is_windowed_layer(layer)


ModelField = Annotated[
    Annotated[str, Tag(NAME_TAG)] | Annotated[ModelCard, Tag(CARD_TAG)], Discriminator(tag_of)
]
"""A model in a run file: a card's name, or a card's fields."""
