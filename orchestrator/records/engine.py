"""What an engine says it can do; rules and the planner read it before they propose anything."""

from dataclasses import dataclass

from orchestrator.specs.choices import Precision, RecomputeGranularity, ScheduleKind


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCapabilities:
    """The axes, switches and versions that one engine runs; what is absent is refused.

    `axes` names the axes whose degree may exceed 1, and `moe` and `mla` where such models build.
    """

    name: str
    version: str
    zero_stages: tuple[int, ...]
    pipeline_zero_stages: tuple[int, ...]
    schedules: tuple[ScheduleKind, ...]
    recompute: tuple[RecomputeGranularity, ...]
    precisions: tuple[Precision, ...]
    axes: tuple[str, ...]


MEGATRON_FAMILY = EngineCapabilities(
    name="Megatron",
    version="any",
    zero_stages=(0, 1),
    pipeline_zero_stages=(0, 1),
    schedules=tuple(ScheduleKind),
    recompute=(RecomputeGranularity.SELECTIVE, RecomputeGranularity.FULL),
    precisions=tuple(Precision),
    axes=("tp", "pp", "cp", "ep", "etp", "vpp", "moe", "mla"),
)
"""What the Megatron engines run together; what `plan` assumes when no engine is named."""
