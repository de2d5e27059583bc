"""Which engine runs which schedule today, and how it is switched on."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from orchestrator.specs.choices import ScheduleKind


class PipelineEngine(StrEnum):
    """What executes a pipeline: the versions are those that tests compare with."""

    MEGATRON = "megatron-core"
    DEEPSPEED = "deepspeed"
    TORCH = "torch"


SWITCHES: Mapping[ScheduleKind, Mapping[PipelineEngine, str]] = MappingProxyType(
    {
        ScheduleKind.NO_PIPELINE: {
            PipelineEngine.MEGATRON: "pipeline_model_parallel_size 1",
        },
        ScheduleKind.ONE_F_ONE_B: {
            PipelineEngine.MEGATRON: "pipeline_model_parallel_size above 1",
            PipelineEngine.DEEPSPEED: "PipelineModule (TrainSchedule)",
            PipelineEngine.TORCH: "Schedule1F1B",
        },
        ScheduleKind.INTERLEAVED: {
            PipelineEngine.MEGATRON: "virtual_pipeline_model_parallel_size, "
            "microbatch_group_size_per_vp_stage",
            PipelineEngine.TORCH: "ScheduleInterleaved1F1B",
        },
        ScheduleKind.GPIPE: {PipelineEngine.TORCH: "ScheduleGPipe"},
        ScheduleKind.COMBINED: {PipelineEngine.MEGATRON: "overlap_moe_expert_parallel_comm"},
        ScheduleKind.LOOPED_BFS: {PipelineEngine.TORCH: "ScheduleLoopedBFS"},
        ScheduleKind.ZERO_BUBBLE: {PipelineEngine.TORCH: "ScheduleInterleavedZeroBubble"},
        ScheduleKind.ZB_V: {PipelineEngine.TORCH: "ScheduleZBVZeroBubble"},
        ScheduleKind.DUAL_PIPE_V: {PipelineEngine.TORCH: "ScheduleDualPipeV"},
    }
)
"""By schedule, the engines that run it and the words that switch it on there, usual one first."""


def engines_of(kind: ScheduleKind) -> tuple[PipelineEngine, ...]:
    """Return the engines that run a schedule, the one it is usually run with first."""
    return tuple(SWITCHES[kind])
