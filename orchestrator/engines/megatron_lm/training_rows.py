"""What `pretrain_gpt.py` is told of batches, steps, learning rate and optimizer.

With one batch size everything is counted in iterations. With a ramp it is counted in samples:
Megatron turns iterations of the learning rate into samples by the last batch size, which would
stretch a decay that begins with smaller ones.
"""

from itertools import pairwise

from orchestrator.engines.megatron_lm.row import Job, Row, Section, Value
from orchestrator.records.batch_ramp import BatchRamp, ramp_of
from orchestrator.specs.choices import DecayStyle, WsdDecayStyle

_DECAY_STYLES = {DecayStyle.WSD: "WSD"}
_WSD_STYLES = {WsdDecayStyle.MINUS_SQRT: "minus_sqrt"}


def ramp(job: Job) -> BatchRamp:
    """Return the run's batch sizes."""
    return ramp_of(job.training)


def has_ramp(job: Job) -> bool:
    """Return whether the batch size changes during the run."""
    return len(ramp(job).phases) > 1


def even_increments(job: Job) -> tuple[int, int, int] | None:
    """Return start, increment and samples of a ramp in equal steps at equal distances, else None.

    That is all that `--rampup-batch-size` can say.
    """
    phases = ramp(job).phases
    sizes = {b.global_batch_size - a.global_batch_size for a, b in pairwise(phases)}
    starts = {b - a for a, b in pairwise(thresholds(job))}
    if len(sizes) != 1 or len(starts) != 1 or min(sizes) <= 0:
        return None
    return phases[0].global_batch_size, sizes.pop(), starts.pop() * (len(phases) - 1)


def thresholds(job: Job) -> tuple[int, ...]:
    """Return the consumed samples from which on each phase holds, as the run file asks."""
    length = job.training.sequence_length
    return tuple(
        phase.first_sample
        if spec.from_steps is not None
        else (spec.from_tokens or 0) // length
        if spec.from_samples is None
        else spec.from_samples
        for spec, phase in zip(job.training.batch_ramp, ramp(job).phases, strict=True)
    )


def _by_steps(job: Job, steps: int) -> Value:
    return None if has_ramp(job) else steps


def _by_samples(job: Job, steps: int) -> Value:
    return ramp(job).samples_after(steps) if has_ramp(job) else None


def _steps(job: Job) -> int:
    return job.plan.run.steps


def _decay(job: Job) -> int:
    return job.optimizer.decay_steps_of(_steps(job))


def _warmup(job: Job) -> int:
    return job.optimizer.warmup_steps_of(_steps(job))


def _wsd_begin(job: Job) -> int:
    return _decay(job) - (job.optimizer.wsd_decay_steps or 0)


def _wsd_steps(job: Job) -> Value:
    return None if has_ramp(job) else job.optimizer.wsd_decay_steps


def _wsd_samples(job: Job) -> Value:
    if not has_ramp(job) or job.optimizer.wsd_decay_steps is None:
        return None
    return ramp(job).samples_after(_decay(job)) - ramp(job).samples_after(_wsd_begin(job))


def _wsd_style(job: Job) -> Value:
    if job.optimizer.decay_style is not DecayStyle.WSD:
        return None
    style = job.optimizer.wsd_decay_style or WsdDecayStyle.EXPONENTIAL
    return _WSD_STYLES.get(style, style.value)


def _schedule_text(job: Job) -> str:
    """The ramp as `TOKENS:BATCH ...`: the calculator knows the sequence, so it reads tokens."""
    length = job.training.sequence_length
    sizes = [phase.global_batch_size for phase in ramp(job).phases]
    pairs = zip(thresholds(job), sizes, strict=True)
    return " ".join(f"{samples * length}:{size}" for samples, size in pairs)


BATCH = Section(
    title="Batch and steps",
    rows=(
        Row(
            flag="--micro-batch-size",
            value=lambda j: j.layout.micro_batch_size,
            why="samples of one pass",
        ),
        Row(
            flag="--train-iters",
            value=lambda j: _by_steps(j, _steps(j)),
            why="optimizer steps of the run",
        ),
        Row(
            flag="--train-samples",
            value=lambda j: _by_samples(j, _steps(j)),
            why="samples of the run: with a ramp steps differ in size",
        ),
        Row(flag="--seed", value=lambda j: j.training.seed, why="of weights, dropout and data"),
    ),
)

CONSTANT_BATCH = Section(
    title="Batch size",
    applies=lambda j: not has_ramp(j),
    rows=(
        Row(
            flag="--global-batch-size",
            value=lambda j: j.training.global_batch_size,
            why="samples of a step; the default is one microbatch a replica",
        ),
    ),
)

RAMP_BY_INCREMENT = Section(
    title="Batch ramp",
    applies=has_ramp,
    rows=(
        Row(
            flag="--global-batch-size",
            value=lambda j: j.training.global_batch_size,
            why="samples of a step at the end of the ramp",
        ),
        Row(
            flag="--rampup-batch-size",
            value=even_increments,
            why="start, increment, samples until the end; works to 0.17 and is ignored from 0.18",
        ),
    ),
)
"""0.16 and 0.17."""

RAMP_BY_SCHEDULE = Section(
    title="Batch ramp",
    applies=has_ramp,
    rows=(
        Row(
            flag="--step-batch-size-schedule",
            value=_schedule_text,
            why="tokens:batch; excludes --global-batch-size",
        ),
        Row(
            flag="--eval-global-batch-size",
            value=lambda j: j.training.global_batch_size,
            why="the default would be one microbatch a replica",
        ),
    ),
)
"""From 0.18 on."""

OPTIMIZER = Section(
    title="Optimizer",
    rows=(
        Row(flag="--optimizer", value=lambda _: "adam", why="with decoupled weight decay: AdamW"),
        Row(flag="--lr", value=lambda j: j.optimizer.learning_rate, why="the highest rate"),
        Row(flag="--min-lr", value=lambda j: j.optimizer.min_learning_rate, why="the last rate"),
        Row(
            flag="--lr-warmup-init",
            value=lambda j: j.optimizer.initial_learning_rate,
            why="the first rate",
        ),
        Row(
            flag="--lr-decay-style",
            value=lambda j: _DECAY_STYLES.get(
                j.optimizer.decay_style, j.optimizer.decay_style.value
            ),
            why="shape after the warm-up",
        ),
        Row(
            flag="--lr-warmup-iters",
            value=lambda j: _by_steps(j, _warmup(j)),
            why="steps until the highest rate",
        ),
        Row(
            flag="--lr-warmup-samples",
            value=lambda j: _by_samples(j, _warmup(j)),
            why="samples until the highest rate",
        ),
        Row(
            flag="--lr-decay-iters",
            value=lambda j: _by_steps(j, _decay(j)),
            why="step with the last rate",
        ),
        Row(
            flag="--lr-decay-samples",
            value=lambda j: _by_samples(j, _decay(j)),
            why="samples until the last rate",
        ),
        Row(flag="--lr-wsd-decay-style", value=_wsd_style, why="how the rate falls at the end"),
        Row(flag="--lr-wsd-decay-iters", value=_wsd_steps, why="steps in which it falls"),
        Row(flag="--lr-wsd-decay-samples", value=_wsd_samples, why="samples in which it falls"),
        Row(flag="--adam-beta1", value=lambda j: j.optimizer.beta1, why="of the first moment"),
        Row(
            flag="--adam-beta2",
            value=lambda j: j.optimizer.beta2,
            why="of the second moment; the default is 0.999",
        ),
        Row(flag="--adam-eps", value=lambda j: j.optimizer.epsilon, why="in Adam's denominator"),
        Row(
            flag="--weight-decay",
            value=lambda j: j.optimizer.weight_decay,
            why="the default is 0.01",
        ),
        Row(
            flag="--clip-grad",
            value=lambda j: j.optimizer.clip_grad,
            why="largest norm of the gradients",
        ),
    ),
)
