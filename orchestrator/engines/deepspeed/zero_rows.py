"""What DeepSpeed is told of ZeRO: stage, buckets that suit the model, offload."""

from orchestrator.engines.deepspeed.row import Job, Row, Section, Value
from orchestrator.specs.choices import Offload, OverlapAxis

LARGEST_BUCKET = 500_000_000
"""Elements; DeepSpeed's own default, which with overlap takes about 4.5 times its bytes."""

SMALLEST_BUCKET = 1_000_000
"""Elements; below, a message is shorter than its latency (assumed)."""

PREFETCHED = 0.9
"""Part of a bucket that is fetched ahead, and `PERSISTENT_ROWS` below: the Hugging Face trainer's
values for stage 3 (transformers, `trainer_config_finalize`)."""

PERSISTENT_ROWS = 10

_WEIGHTS = 3


def bucket_elements(job: Job) -> int:
    """Return the elements of a bucket: those of a decoder layer, within bounds.

    So a layer's gradients travel as one message, and a small model keeps no buffer of a
    large one.
    """
    return max(SMALLEST_BUCKET, min(LARGEST_BUCKET, job.layer_elements))


def _is_stage_3(job: Job) -> bool:
    return job.layout.zero_stage == _WEIGHTS


def _hidden(job: Job) -> int:
    return job.plan.run.model.hidden_size


def _offloads(job: Job) -> bool:
    return job.layout.offload is not Offload.NONE


def _overlap(job: Job) -> Value:
    return OverlapAxis.DP in job.layout.overlap


ZERO = Section(
    title="ZeRO",
    rows=(
        Row(
            key="zero_optimization.stage",
            value=lambda j: j.layout.zero_stage,
            why="1 shards optimizer states, 2 gradients too, 3 weights too",
        ),
        Row(
            key="zero_optimization.mics_shard_size",
            value=lambda j: j.layout.zero_domain if j.layout.zero_replicas > 1 else None,
            why="ranks that shard one replica (MiCS; the script needs deepspeed.zero.MiCS_Init)",
        ),
    ),
)

SHARDED = Section(
    title="ZeRO: buckets and overlap",
    applies=lambda j: j.layout.zero_stage > 0,
    rows=(
        Row(
            key="zero_optimization.overlap_comm",
            value=_overlap,
            why="gradients travel while the backward pass runs; left out it follows the stage",
        ),
        Row(
            key="zero_optimization.contiguous_gradients",
            value=lambda _: True,
            why="gradients in one buffer: no fragments",
            yields=True,
        ),
        Row(
            key="zero_optimization.reduce_scatter",
            value=lambda _: True,
            why="each rank gets its own part of the gradients, not all of them",
            yields=True,
        ),
        Row(
            key="zero_optimization.reduce_bucket_size",
            value=bucket_elements,
            why="elements reduced at a time: a decoder layer's; the default is 500,000,000",
            yields=True,
        ),
        Row(
            key="zero_optimization.allgather_bucket_size",
            value=lambda j: None if _is_stage_3(j) else bucket_elements(j),
            why="elements of weights gathered at a time",
            yields=True,
        ),
    ),
)

WEIGHTS = Section(
    title="ZeRO 3: weights",
    applies=_is_stage_3,
    rows=(
        Row(
            key="zero_optimization.stage3_prefetch_bucket_size",
            value=lambda j: int(PREFETCHED * _hidden(j) * _hidden(j)),
            why="elements fetched ahead of use: 0.9 x hidden x hidden",
            yields=True,
        ),
        Row(
            key="zero_optimization.stage3_param_persistence_threshold",
            value=lambda j: PERSISTENT_ROWS * _hidden(j),
            why="smaller parameters (norms, biases) stay whole: 10 x hidden elements",
            yields=True,
        ),
        Row(
            key="zero_optimization.stage3_max_live_parameters",
            value=lambda j: max(3 * j.layer_elements, SMALLEST_BUCKET),
            why="elements whole at once: a layer in use, one fetched ahead, one leaving",
            yields=True,
        ),
        Row(
            key="zero_optimization.stage3_max_reuse_distance",
            value=lambda j: max(3 * j.layer_elements, SMALLEST_BUCKET),
            why="a parameter used again within so many elements is kept",
            yields=True,
        ),
        Row(
            key="zero_optimization.stage3_gather_16bit_weights_on_model_save",
            value=lambda _: True,
            why="save_16bit_model writes whole weights; without it, nothing",
            yields=True,
        ),
    ),
)

OFFLOAD = Section(
    title="Offload",
    applies=_offloads,
    rows=(
        Row(
            key="zero_optimization.offload_optimizer.device",
            value=lambda _: "cpu",
            why="optimizer states and their update in host memory",
            yields=True,
        ),
        Row(
            key="zero_optimization.offload_optimizer.pin_memory",
            value=lambda _: True,
            why="page-locked: copies run beside the computation",
            yields=True,
        ),
        Row(
            key="zero_optimization.offload_param.device",
            value=lambda j: "cpu" if j.layout.offload is Offload.PARAMETERS else None,
            why="weights in host memory, fetched a layer at a time",
            yields=True,
        ),
        Row(
            key="zero_optimization.offload_param.pin_memory",
            value=lambda j: True if j.layout.offload is Offload.PARAMETERS else None,
            why="page-locked: copies run beside the computation",
            yields=True,
        ),
    ),
)
