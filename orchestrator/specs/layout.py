"""How a run is spread over ranks; dp is derived from the world, never written."""

from typing import Self

from pydantic import Field, PositiveInt, model_validator

from orchestrator.specs.choices import (
    CpCommType,
    Offload,
    OverlapAxis,
    RecomputeGranularity,
    ScheduleKind,
)
from orchestrator.specs.closed import Closed, Degree


class RecomputeSpec(Closed):
    """What the backward pass computes again instead of keeping."""

    granularity: RecomputeGranularity = RecomputeGranularity.NONE
    modules: tuple[str, ...] = Field(default=(), description="with selective: Megatron's names")
    layers: PositiveInt | None = Field(
        default=None, description="with full: layers of each stage recomputed; absent: all"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        selective = self.granularity is RecomputeGranularity.SELECTIVE
        if bool(self.modules) != selective:
            msg = "modules go with granularity selective, and selective needs modules"
            raise ValueError(msg)
        if self.layers is not None and self.granularity is not RecomputeGranularity.FULL:
            msg = "layers go with granularity full"
            raise ValueError(msg)
        return self


class LayoutSpec(Closed):
    """The degrees of every parallel axis and the switches that go with them."""

    tp: Degree = 1
    pp: Degree = 1
    cp: Degree = 1
    ep: Degree = 1
    etp: Degree | None = Field(default=None, description="absent: tp for MoE, else 1")
    vpp: Degree = Field(default=1, description="virtual stages of each pipeline rank")
    microbatch_group_size: Degree | None = Field(default=None, description="absent: pp")
    micro_batch_size: Degree = 1
    zero_stage: int = Field(default=1, ge=0, le=3)
    zero_replicas: Degree = 1
    offload: Offload = Offload.NONE
    overlap: tuple[OverlapAxis, ...] = ()
    cp_comm_type: CpCommType | None = None
    sequence_parallel: bool = False
    recompute: RecomputeSpec = RecomputeSpec()
    schedule: ScheduleKind | None = Field(default=None, description="absent: follows pp and vpp")
    stage_layout: str | None = Field(
        default=None, description="Megatron's grammar, `E|(t|)*126,L`; absent: even"
    )
