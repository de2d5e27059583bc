"""What DeepSpeed cannot say of a run file, by name: nothing of it is dropped in silence."""

from collections.abc import Callable, Iterator

from orchestrator.engines.deepspeed.config_rows import SCHEDULES
from orchestrator.engines.deepspeed.row import Job
from orchestrator.records.engine import release
from orchestrator.specs.choices import DecayStyle

MICS_UNTIL = "0.19.7"
CLAMPED_SINCE = "0.19.3"
_WEIGHTS = 3


def reasons(job: Job) -> tuple[str, ...]:
    """Return why a release cannot run a job, each with the field it is about."""
    return tuple(reason for check in _CHECKS for reason in check(job))


def _is_before(job: Job, version: str) -> bool:
    return release(job.version) < release(version)


def _replicas(job: Job) -> Iterator[str]:
    replicas = job.layout.zero_replicas
    if replicas == 1:
        return
    if not _is_before(job, MICS_UNTIL):
        yield (
            f"layout.zero_replicas: {replicas}; replicas of shards (MiCS) were removed in "
            f"{MICS_UNTIL}; possible: 1, or an engine.version before it"
        )
    elif job.layout.zero_stage != _WEIGHTS:
        yield f"layout.zero_replicas: {replicas}; MiCS shards weights: it needs zero_stage 3"


def _stages(job: Job) -> Iterator[str]:
    if job.layout.stage_layout is not None:
        yield (
            "layout.stage_layout: Megatron's grammar; PipelineModule cuts its own list of layers, "
            "by pipeline.partition or the script"
        )


def _recompute(job: Job) -> Iterator[str]:
    layers = job.layout.recompute.layers
    if layers is not None:
        yield (
            f"layout.recompute.layers: {layers}; what calls deepspeed.checkpointing is recomputed, "
            "all layers or what the script chooses"
        )


def _ramp(job: Job) -> Iterator[str]:
    if job.training.batch_ramp:
        yield "training.batch_ramp: train_batch_size is one number for the whole run"


def _decay(job: Job) -> Iterator[str]:
    optimizer, steps = job.optimizer, job.plan.run.steps
    if optimizer.decay_style not in SCHEDULES:
        known = ", ".join(sorted(SCHEDULES))
        yield (
            f"training.optimizer.decay_style: {optimizer.decay_style}; DeepSpeed's schedulers are "
            f"{known}"
        )
    ends_at = (optimizer.initial_learning_rate, optimizer.min_learning_rate)
    if optimizer.decay_style is DecayStyle.LINEAR and ends_at[0] != ends_at[1]:
        yield (
            f"training.optimizer.min_learning_rate: {ends_at[1]}; WarmupDecayLR ends where it "
            f"began, at initial_learning_rate {ends_at[0]}: give both alike"
        )
    if optimizer.decay_style is DecayStyle.COSINE and _is_before(job, CLAMPED_SINCE):
        yield from _swings_back(optimizer.decay_steps_of(steps), steps)


def _swings_back(decay: int, steps: int) -> Iterator[str]:
    if decay < steps:
        yield (
            f"training.optimizer.decay_steps: {decay} of {steps} steps; before {CLAMPED_SINCE} the "
            "rate rises again after the end of the cosine"
        )


def _sections(job: Job) -> Iterator[str]:
    spec = job.plan.run.spec
    given = {
        "data": spec.data,
        "checkpoint": spec.checkpoint,
        "training.evaluation": spec.training.evaluation,
    }
    for name, section in given.items():
        if section is not None:
            yield (
                f"{name}: the script {spec.engine.script} reads and writes its own; leave it out "
                "and tell the script by engine.arguments"
            )


def _dropout(job: Job) -> Iterator[str]:
    for name in ("hidden_dropout", "attention_dropout"):
        if getattr(job.training, name):
            yield f"training.{name}: the model of the script decides; DeepSpeed's JSON has no key"


_CHECKS: tuple[Callable[[Job], Iterator[str]], ...] = (
    *(_replicas, _stages, _recompute, _ramp),
    *(_decay, _sections, _dropout),
)
