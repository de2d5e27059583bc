"""What an engine says it can do; rules and the planner read it before they propose anything."""

import re
from dataclasses import dataclass
from enum import StrEnum
from itertools import takewhile
from typing import get_args

from orchestrator.specs.choices import (
    CpCommType,
    Offload,
    OverlapAxis,
    Precision,
    RecomputeGranularity,
    ScheduleKind,
)
from orchestrator.specs.model import SPECIAL_FIELDS, Activation
from orchestrator.specs.numerics import NumericsSpec


class EngineFamily(StrEnum):
    """Whose rules an engine obeys."""

    MEGATRON = "megatron"
    DEEPSPEED = "deepspeed"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCapabilities:
    """The axes, switches and versions that one engine runs; what is absent is refused.

    `axes` names the axes whose degree may exceed 1; `model_features` the special fields of a model
    card that are honoured, `activations` those that it builds, and `overlaps` the axes whose
    communication it hides behind computation. `versions` are all that can be asked for, where
    there are several, `fields` the further keys of the section `engine` that it reads, `numerics`
    the keys of `training.numerics` that it sets, `offloads` what it keeps in host memory,
    `context_exchange` how its cp exchanges where that is left open. Without `reports` its ranks
    tell an agent nothing of their steps, so a run cannot be supervised.
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
    family: EngineFamily = EngineFamily.MEGATRON
    versions: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    numerics: tuple[str, ...] = ()
    context_exchange: CpCommType = CpCommType.P2P
    offloads: tuple[Offload, ...] = (Offload.NONE,)
    reports: bool = True


def release(version: str) -> tuple[int, ...]:
    """Return a version as numbers that compare: "0.16.1" is after "0.9", and "0.17rc1" is 0.17."""
    leading = (re.match(r"\d+", part) for part in version.split("."))
    return tuple(int(match[0]) for match in takewhile(bool, leading) if match)


MEGATRON_FAMILY = EngineCapabilities(
    name="Megatron",
    version="any",
    zero_stages=(0, 1),
    pipeline_zero_stages=(0, 1),
    schedules=(ScheduleKind.NO_PIPELINE, ScheduleKind.ONE_F_ONE_B, ScheduleKind.INTERLEAVED),
    recompute=(RecomputeGranularity.SELECTIVE, RecomputeGranularity.FULL),
    precisions=(Precision.FP32, Precision.BF16, Precision.FP8),
    axes=("tp", "pp", "cp", "ep", "etp", "vpp", "zero_replicas"),
    model_features=(*SPECIAL_FIELDS, "rotary_percent"),
    activations=get_args(Activation),
    overlaps=tuple(OverlapAxis),
    fields=("checkout", "arguments", "hooks"),
    numerics=tuple(NumericsSpec.model_fields),
)
"""What the Megatron engines run together; what `plan` assumes when no engine is named."""
