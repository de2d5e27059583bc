"""What the planner answers: ranked plans that explain themselves, and why others fell out."""

import math
from dataclasses import dataclass, fields

from orchestrator.records.calibration import Origin
from orchestrator.records.layout import Layout
from orchestrator.records.run import ResolvedRun
from orchestrator.specs.choices import Precision


@dataclass(frozen=True, slots=True, kw_only=True)
class CostParts:
    """Seconds of one optimizer step on the critical path, by cause; they sum to the total.

    Communication parts are what stays exposed after overlap.
    """

    matmul_s: float
    attention_s: float
    elementwise_s: float
    logits_s: float
    recompute_s: float
    tp_comm_s: float
    cp_comm_s: float
    ep_comm_s: float
    pp_comm_s: float
    dp_comm_s: float
    bubble_s: float
    imbalance_s: float
    optimizer_s: float
    host_s: float

    @property
    def total_s(self) -> float:
        """The modelled step time."""
        return math.fsum(getattr(self, field.name) for field in fields(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryParts:
    """Bytes on the fullest rank, by cause; they sum to the total.

    `reserve_bytes` is what the CUDA context, NCCL and fragmentation take.
    """

    parameters_bytes: float
    gradients_bytes: float
    optimizer_bytes: float
    activations_bytes: float
    logits_bytes: float
    reserve_bytes: float

    @property
    def total_bytes(self) -> float:
        """The modelled peak."""
        return math.fsum(getattr(self, field.name) for field in fields(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bubble:
    """Idle share of a step, under the name of its measure.

    `fraction` is (makespan - ideal) / makespan of the pipeline alone, uniform stages, no latency.
    """

    fraction: float
    measure: str = "makespan"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One layout of a run with its modelled costs.

    `mfu` counts model FLOPs (no recomputation, causal attention halved) against the dense peak
    of the plan's precision (of BF16 for FP32 on devices without it). `rates` says where the rates
    of its products and attention come from; `interval_s` holds four of five measured steps of
    its class, None where no such rate was fitted.
    """

    run: ResolvedRun
    layout: Layout
    precision: Precision
    num_microbatches: int
    cost: CostParts
    memory: MemoryParts
    bubble: Bubble
    model_flop_per_step: float
    mfu: float
    binding_limit: str
    rates: Origin
    interval_s: tuple[float, float] | None = None

    @property
    def step_time_s(self) -> float:
        """Modelled seconds of one optimizer step."""
        return self.cost.total_s

    @property
    def tokens_per_s_per_gpu(self) -> float:
        """Modelled tokens a second of one accelerator."""
        return self.run.tokens_per_step / self.step_time_s / self.layout.world_size

    @property
    def model_flop_per_s_per_gpu(self) -> float:
        """Modelled model FLOP/s of one accelerator."""
        return self.model_flop_per_step / self.step_time_s / self.layout.world_size

    @property
    def training_s(self) -> float:
        """Modelled busy time of the whole training, without failures or evaluation.

        The smaller batches of a ramp are taken to run at the speed of the full one.
        """
        return self.run.tokens / self.run.tokens_per_step * self.step_time_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """Why candidates fell out: the rule, how many, an example and the nearest way in."""

    rule: str
    count: int
    example: str
    smallest_change: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanReport:
    """The planner's whole answer, best plan first."""

    plans: tuple[Plan, ...]
    rejected: tuple[Rejection, ...]
    evaluated: int
    explanation: tuple[str, ...] = ()
