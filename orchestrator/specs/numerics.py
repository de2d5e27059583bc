"""In which formats gradients and the optimizer's states are kept."""

from typing import Literal

from pydantic import Field

from orchestrator.specs.closed import Closed

Wide = Literal["fp32", "bf16"]
Moment = Literal["fp32", "bf16", "fp16", "fp8"]


class NumericsSpec(Closed):
    """Formats beside the matrix products'; the defaults are Megatron's.

    Everything but `gradients` and `narrow_parameters` needs a precision-aware optimizer
    (Megatron's `--use-precision-aware-optimizer`), which the engine turns on where it is used.
    """

    gradients: Wide = Field(
        default="fp32",
        description="accumulated and reduced; bf16 is Megatron's --grad-reduce-in-bf16",
    )
    optimizer_gradients: Wide = Field(default="fp32", description="--main-grads-dtype")
    master_parameters: Literal["fp32", "fp16"] = Field(
        default="fp32", description="--main-params-dtype"
    )
    first_moment: Moment = Field(default="fp32", description="--exp-avg-dtype")
    second_moment: Moment = Field(default="fp32", description="--exp-avg-sq-dtype")
    narrow_parameters: bool = Field(
        default=False,
        description="with FP8: weights are kept and gathered in 8 bits (--fp8-param-gather)",
    )

    @property
    def is_precision_aware(self) -> bool:
        """Whether the optimizer's states are narrower than Megatron's defaults."""
        states = (self.optimizer_gradients, self.master_parameters)
        return {*states, self.first_moment, self.second_moment} != {"fp32"}
