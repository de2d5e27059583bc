"""What an engine says it can do; rules and the planner read it before they propose anything."""

from dataclasses import dataclass
from typing import get_args

from orchestrator.specs.choices import (
    OverlapAxis,
    Precision,
    RecomputeGranularity,
    ScheduleKind,
)
from orchestrator.specs.model import SPECIAL_FIELDS, Activation


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCapabilities:
    """The axes, switches and versions that one engine runs; what is absent is refused.

    `axes` names the axes whose degree may exceed 1; `model_features` the special fields of a model
    card that are honoured, `activations` those that it builds, and `overlaps` the axes whose
    communication it hides behind computation.
    """

    name: str
    version: str
    zero_stages: tuple[int, ...]
    pipeline_zero_stages: tuple[int, ...]
    schedules: tuple[ScheduleKind, ...]
    recompute: tuple[RecomputeGranularity, ...]
    precisions: tuple[Precision, ...]
    axes: tuple[str, ...]
    model_features: tuple[str, ...]
    activations: tuple[str, ...]
    overlaps: tuple[OverlapAxis, ...]


MEGATRON_FAMILY = EngineCapabilities(
    name="Megatron",
    version="any",
    zero_stages=(0, 1),
    pipeline_zero_stages=(0, 1),
    schedules=(ScheduleKind.NO_PIPELINE, ScheduleKind.ONE_F_ONE_B, ScheduleKind.INTERLEAVED),
    recompute=(RecomputeGranularity.SELECTIVE, RecomputeGranularity.FULL),
    precisions=tuple(Precision),
    axes=("tp", "pp", "cp", "ep", "etp", "vpp", "zero_replicas"),
    model_features=(*SPECIAL_FIELDS, "rotary_percent"),
    activations=get_args(Activation),
    overlaps=tuple(OverlapAxis),
)
"""What the Megatron engines run together; what `plan` assumes when no engine is named."""
