"""Which questions about a run an installed engine is asked without a GPU, and which it cannot be.

Ranks of one pipeline rank are alike, and so are microbatches: a few of both stand for all.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import lcm

from launch.workers.engine_check.questions import Question, Topic
from orchestrator.cost.shape import shape_of
from orchestrator.cost.tensors import stage_tensors
from orchestrator.cost.traffic import uncounted
from orchestrator.records.layout import Layout
from orchestrator.records.run import ResolvedRun, padded_vocab_size
from orchestrator.schedules.stages import Stage
from orchestrator.specs.choices import OverlapAxis

MEGATRON = "megatron-core"
DEEPSPEED = "deepspeed"

_ENOUGH_MICROBATCHES = 2
"""Rounds of a pipeline after which a schedule has shown its start, its middle and its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A run in a layout: what engines are asked about; DeepSpeed with the JSON it is started by."""

    run: ResolvedRun
    layout: Layout
    config: str | None = None

    @property
    def num_microbatches(self) -> int:
        """Microbatches of a step on one rank."""
        return self.layout.num_microbatches(self.run.training.global_batch_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question with the layout that it is about: as large as the run's, or with less dp."""

    question: Question
    layout: Layout


def megatron_questions(job: Job) -> tuple[Asked, ...]:
    """Return what Megatron-Core is asked: groups, parameters by stage, a step of a few ranks."""
    topic = Topic.GROUPS if unasked_of_a_step(job) else Topic.STEP
    return (
        *_parameter_questions(job),
        *(asked_about(job, topic, rank) for rank in _few(job.layout)),
    )


def unasked_of_a_step(job: Job) -> tuple[str, ...]:
    """Return why no step of a run is recorded; empty where one is."""
    layout, model = job.layout, job.run.model
    reasons = [f"llmorch does not count {name} by call" for name in uncounted(job.run, layout)]
    if layout.cp > 1:
        reasons.append("attention over cp is Transformer Engine's, which needs a GPU")
    if model.moe is not None:
        reasons.append("routing to experts depends on values, and a dry run has none")
    if model.attention_sinks or model.window or model.parallel_attention:
        reasons.append(f"Megatron-Core without Transformer Engine does not run {model.name}")
    return tuple(reasons)


def deepspeed_questions(job: Job) -> tuple[Asked, ...]:
    """Return what DeepSpeed is asked: its configuration, and what a rank keeps of states.

    The last rank is asked, as its part holds the padding.
    """
    layout = job.layout
    topics = [(Topic.CONFIG, 0)]
    if layout.zero_stage and not unasked_of_deepspeed(job):
        topics.append((Topic.PARTITION, layout.world_size - 1))
    tensors = model_tensors(job)
    return tuple(
        Asked(
            question=replace(
                asked_about(job, topic, rank).question,
                num_microbatches=job.num_microbatches,
                tensors=tensors,
                config=job.config,
            ),
            layout=layout,
        )
        for topic, rank in topics
    )


def unasked_of_deepspeed(job: Job) -> tuple[str, ...]:
    """Return why DeepSpeed is not asked about a run; empty where it is."""
    layout = job.layout
    axes = [axis for axis in ("tp", "cp", "pp", "ep", "etp") if getattr(layout, axis) > 1]
    return (f"DeepSpeed is asked about data parallelism alone, not {', '.join(axes)}",) * bool(axes)


def model_tensors(job: Job) -> tuple[int, ...]:
    """Return the elements of the model's parameters one by one, nothing cut."""
    shape = shape_of(job.run.model)
    stage = Stage(has_embedding=True, decoder_layers=shape.num_layers, has_loss=True)
    vocab = padded_vocab_size(job.run.model, job.run.training, tp=1)
    whole = stage_tensors(shape, job.layout, stage, first_layer=0, vocab=vocab)
    return tuple(tensor.elements for tensor in whole)


def _parameter_questions(job: Job) -> Iterator[Asked]:
    """Yield one question for each pipeline rank, in the smallest world with the same model.

    dp and cp change nothing about what a rank holds, and groups of a small world are made at once.
    """
    layout = job.layout
    members = lcm(layout.tp, layout.etp * layout.ep)
    small = replace(layout, cp=1, dp=members // layout.tp, zero_replicas=1)
    for pp_rank in range(layout.pp):
        yield asked_about(job, Topic.PARAMETERS, pp_rank * members, layout=small)


def _few(layout: Layout) -> tuple[int, ...]:
    """Return ranks that stand for the others: of the first, a middle and the last pipeline rank.

    Of each another place on the inner axes: its first rank, one in between, its last.
    """
    inner = layout.world_size // layout.pp
    places = ((0, 0), (layout.pp // 2, inner // 2), (layout.pp - 1, inner - 1))
    return tuple(dict.fromkeys(pp_rank * inner + place for pp_rank, place in places))


def asked_about(job: Job, topic: Topic, rank: int, *, layout: Layout | None = None) -> Asked:
    """Return a question about one rank; `layout` where it is not the run's."""
    run = job.run
    layout = layout or job.layout
    recompute = layout.recompute
    question = Question(
        topic=topic,
        rank=rank,
        world_size=layout.world_size,
        tp=layout.tp,
        cp=layout.cp,
        pp=layout.pp,
        vpp=layout.vpp,
        ep=layout.ep,
        etp=layout.etp,
        microbatch_group_size=layout.microbatch_group_size,
        micro_batch_size=layout.micro_batch_size,
        num_microbatches=_microbatches(job),
        zero_stage=layout.zero_stage,
        zero_replicas=layout.zero_replicas,
        sequence_parallel=layout.sequence_parallel,
        overlaps_dp=OverlapAxis.DP in layout.overlap,
        recompute_granularity=recompute.granularity.value,
        recompute_modules=recompute.modules,
        recompute_layers=recompute.layers,
        stage_layout=layout.stage_layout,
        sequence_length=run.training.sequence_length,
        precision=run.training.precision.value,
        tensors=(),
        padded_vocab_size=padded_vocab_size(run.model, run.training, tp=layout.tp),
        model=run.model.model_dump(mode="json", exclude_none=True),
    )
    return Asked(question=question, layout=layout)


def _microbatches(job: Job) -> int:
    """Return how many microbatches the step runs: two rounds of the pipeline, or all."""
    layout = job.layout
    group = max(layout.microbatch_group_size, layout.pp)
    enough = _ENOUGH_MICROBATCHES * group
    rest = job.num_microbatches % group
    return min(job.num_microbatches, enough + rest)
