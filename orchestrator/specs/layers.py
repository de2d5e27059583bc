"""Which layers are of which kind, and what is special in them: experts and attention windows."""

import re
from typing import Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from orchestrator.specs.closed import Closed, Size

_PATTERN_TERM = re.compile(r"\[([01](?:,[01])*)\](?:\*(\d{1,4}))?")


class MoeSpec(Closed):
    """The experts of a mixture-of-experts model."""

    num_experts: Size = Field(description="routed experts of a layer")
    router_topk: Size = Field(description="routed experts that a token meets")
    moe_ffn_hidden_size: Size = Field(description="FFN width of one routed expert")
    shared_expert_intermediate_size: int = Field(
        default=0, ge=0, description="FFN width of all shared experts together; 0: none"
    )
    layer_pattern: str = Field(
        default="[1]", description="1 = MoE layer, 0 = dense: '[0]*3+[1]*58'; repeated to the end"
    )
    router_dtype: Literal["bf16", "fp32"] = "fp32"
    score_function: Literal["softmax", "sigmoid"] = "softmax"
    aux_loss_coeff: float = Field(default=0.0, ge=0)
    load_balancing: Literal["none", "aux_loss", "seq_aux_loss"] = "aux_loss"
    expert_bias: bool = Field(
        default=False, description="routing corrected by a bias that no gradient trains"
    )
    expert_bias_update_rate: PositiveFloat | None = None
    num_groups: PositiveInt | None = Field(
        default=None, description="experts are routed within groups; absent: no groups"
    )
    group_topk: PositiveInt | None = Field(default=None, description="groups that a token meets")
    topk_scaling_factor: PositiveFloat | None = Field(
        default=None, description="factor on the weights of the chosen experts; absent: 1"
    )
    apply_probs_on_input: bool = Field(
        default=False,
        description="the router's weight multiplies an expert's input, not its output",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.router_topk > self.num_experts:
            msg = f"router_topk {self.router_topk} is more than num_experts {self.num_experts}"
            raise ValueError(msg)
        if (self.num_groups is None) != (self.group_topk is None):
            msg = "num_groups and group_topk go together"
            raise ValueError(msg)
        pattern_of(self.layer_pattern)
        return self

    def is_moe_layer(self, layer: int) -> bool:
        """Return whether the 0-based decoder layer holds experts."""
        return is_marked(self.layer_pattern, layer)


class WindowSpec(Closed):
    """Attention that does not look back over the whole sequence, in some layers."""

    size: Size = Field(description="tokens")
    kind: Literal["sliding", "chunked"] = Field(
        default="sliding", description="sliding: the last `size` tokens; chunked: the own chunk"
    )
    layer_pattern: str = Field(
        default="[1]", description="1 = windowed layer, 0 = full: '[1,1,1,1,1,0]'; repeated"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        pattern_of(self.layer_pattern)
        return self

    def is_windowed_layer(self, layer: int) -> bool:
        """Return whether the 0-based decoder layer looks through the window."""
        return is_marked(self.layer_pattern, layer)


def is_marked(pattern: str, layer: int) -> bool:
    """Return whether the 0-based layer is a 1 of the pattern, repeated to the last layer."""
    marks = pattern_of(pattern)
    return bool(marks[layer % len(marks)])


def pattern_of(text: str) -> tuple[int, ...]:
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
