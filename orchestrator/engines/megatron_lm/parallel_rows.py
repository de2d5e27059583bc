"""What `pretrain_gpt.py` is told of the layout: axes, stages, sharding and overlap.

There is no option for dp: it is what the world leaves. ZeRO 0 is DDP, 1 the distributed optimizer,
2 and 3 Megatron-FSDP.
"""

from orchestrator.engines.megatron_lm.row import Job, Row, Section, Value
from orchestrator.specs.choices import OverlapAxis, RecomputeGranularity

_FSDP_STRATEGY = {2: "optim_grads", 3: "optim_grads_params"}


def _overlaps(job: Job, axis: OverlapAxis) -> bool:
    return axis in job.layout.overlap


def _with_vpp(job: Job) -> bool:
    return job.layout.vpp > 1


def _virtual_stages(job: Job) -> Value:
    # Exactly one of the three spellings of virtual stages may be given.
    return job.layout.vpp if _with_vpp(job) and job.layout.stage_layout is None else None


def _cp_comm(job: Job) -> Value:
    kind = job.layout.cp_comm_type
    return None if job.layout.cp == 1 else (kind.value if kind else "p2p")


AXES = Section(
    title="Parallel axes",
    rows=(
        Row(
            flag="--tensor-model-parallel-size",
            value=lambda j: j.layout.tp,
            why="ranks that share every matrix",
        ),
        Row(
            flag="--pipeline-model-parallel-size",
            value=lambda j: j.layout.pp,
            why="ranks that share the layers",
        ),
        Row(
            flag="--context-parallel-size",
            value=lambda j: j.layout.cp,
            why="ranks that share a sequence",
        ),
        Row(flag="--cp-comm-type", value=_cp_comm, why="how keys and values move"),
        Row(
            flag="--sequence-parallel",
            value=lambda j: j.layout.sequence_parallel and j.layout.tp > 1,
            why="norms and dropout split along the sequence over tp",
        ),
        Row(
            flag="--num-virtual-stages-per-pipeline-rank",
            value=_virtual_stages,
            why="interleaving",
        ),
        Row(
            flag="--pipeline-model-parallel-layout",
            value=lambda j: j.layout.stage_layout,
            why="which layers each stage holds",
        ),
        Row(
            flag="--microbatch-group-size-per-virtual-pipeline-stage",
            value=lambda j: j.layout.microbatch_group_size if _with_vpp(j) else None,
            why="microbatches that a stage runs before it changes",
        ),
        Row(
            flag="--no-overlap-p2p-communication",
            value=lambda j: _with_vpp(j) and not _overlaps(j, OverlapAxis.PP),
            why="sends wait; without it interleaving hides them",
        ),
        Row(
            flag="--tp-comm-overlap",
            value=lambda j: _overlaps(j, OverlapAxis.TP) and j.layout.sequence_parallel,
            why="gathers and scatters of tp run beside the products (userbuffers)",
        ),
    ),
)

SHARDING = Section(
    title="Data parallelism",
    rows=(
        Row(
            flag="--use-distributed-optimizer",
            value=lambda j: j.layout.zero_stage >= 1,
            why="optimizer states are sharded over dp x cp (ZeRO 1)",
        ),
        Row(
            flag="--use-megatron-fsdp",
            value=lambda j: j.fsdp,
            why="gradients, and with ZeRO 3 weights, are sharded as well",
        ),
        Row(
            flag="--data-parallel-sharding-strategy",
            value=lambda j: _FSDP_STRATEGY.get(j.layout.zero_stage),
            why="its default changed between 0.17 and 0.18",
        ),
        Row(
            flag="--num-distributed-optimizer-instances",
            value=lambda j: j.layout.zero_replicas if j.layout.zero_replicas > 1 else None,
            why="replicas of the sharded states",
        ),
        Row(
            flag="--outer-dp-sharding-strategy",
            value=lambda j: "no_shard" if j.fsdp and j.layout.zero_replicas > 1 else None,
            why="nothing is sharded across replicas (HSDP)",
        ),
        Row(
            flag="--overlap-grad-reduce",
            value=lambda j: _overlaps(j, OverlapAxis.DP) or j.fsdp,
            why="gradients travel while the backward pass runs",
        ),
        Row(
            flag="--overlap-param-gather",
            value=lambda j: j.layout.zero_stage >= 1 and (_overlaps(j, OverlapAxis.DP) or j.fsdp),
            why="weights are gathered while the forward pass runs; needs the line above",
        ),
        Row(
            flag="--no-gradient-accumulation-fusion",
            value=lambda j: j.fsdp,
            why="the fused kernel writes into a buffer that FSDP replaces",
        ),
        Row(
            flag="--init-model-with-meta-device",
            value=lambda j: j.fsdp,
            why="no rank ever holds the whole model",
        ),
    ),
)


def _granularity(job: Job) -> Value:
    granularity = job.layout.recompute.granularity
    return None if granularity is RecomputeGranularity.NONE else granularity.value


def _is_full(job: Job) -> bool:
    return job.layout.recompute.granularity is RecomputeGranularity.FULL


def _recomputed_layers(job: Job) -> Value:
    if not _is_full(job):
        return None
    return job.layout.recompute.layers or 1


def _method(job: Job) -> Value:
    if not _is_full(job):
        return None
    return "uniform" if job.layout.recompute.layers is None else "block"


RECOMPUTE = Section(
    title="Recomputation",
    rows=(
        Row(flag="--recompute-granularity", value=_granularity, why="what is computed twice"),
        Row(
            flag="--recompute-modules",
            value=lambda j: j.layout.recompute.modules or None,
            why="the parts of a layer",
        ),
        Row(
            flag="--recompute-method",
            value=_method,
            why="uniform keeps the input of each layer, block recomputes the first N of a stage",
        ),
        Row(
            flag="--recompute-num-layers",
            value=_recomputed_layers,
            why="layers between two kept inputs, or layers of a block; has no default that works",
        ),
    ),
)
