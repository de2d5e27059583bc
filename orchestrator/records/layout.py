"""A layout with its data-parallel degree: what the planner ranks and an engine renders."""

from dataclasses import dataclass

from orchestrator.specs.choices import (
    CpCommType,
    Offload,
    OverlapAxis,
    RecomputeGranularity,
    ScheduleKind,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recompute:
    """What the backward pass computes again; `layers` counts layers of a stage, None is all."""

    granularity: RecomputeGranularity = RecomputeGranularity.NONE
    modules: tuple[str, ...] = ()
    layers: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The degrees of every parallel axis and the switches that go with them.

    Dense ranks factor as tp x cp x dp x pp, expert ranks as etp x ep x expert_dp x pp.
    `stage_layout` is None where every stage holds the same number of layers.
    """

    tp: int
    pp: int
    dp: int
    cp: int = 1
    ep: int = 1
    etp: int = 1
    vpp: int = 1
    microbatch_group_size: int = 1
    micro_batch_size: int = 1
    zero_stage: int = 1
    zero_replicas: int = 1
    offload: Offload = Offload.NONE
    overlap: tuple[OverlapAxis, ...] = ()
    cp_comm_type: CpCommType | None = None
    sequence_parallel: bool = False
    recompute: Recompute = Recompute()
    schedule: ScheduleKind = ScheduleKind.NO_PIPELINE
    stage_layout: str | None = None

    @property
    def model_parallel_size(self) -> int:
        """Ranks that together hold one copy of the model: tp x cp x pp."""
        return self.tp * self.cp * self.pp

    @property
    def world_size(self) -> int:
        """All ranks: tp x cp x pp x dp."""
        return self.model_parallel_size * self.dp

    @property
    def num_stages(self) -> int:
        """Virtual pipeline stages: pp x vpp."""
        return self.pp * self.vpp

    @property
    def zero_domain(self) -> int:
        """Ranks over which dense optimizer states are sharded: dp x cp over the replicas."""
        return self.dp * self.cp // self.zero_replicas

    @property
    def expert_dp(self) -> int:
        """Ranks that hold the same experts: world / (etp x ep x pp)."""
        return self.world_size // (self.etp * self.ep * self.pp)

    def num_microbatches(self, global_batch_size: int) -> int:
        """Return microbatches of a step: global batch / (micro batch x dp), rounded down."""
        return global_batch_size // (self.micro_batch_size * self.dp)
