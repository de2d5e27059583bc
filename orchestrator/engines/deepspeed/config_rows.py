"""What DeepSpeed is told of batches, formats, optimizer, pipeline, recomputation and logs."""

from orchestrator.engines.deepspeed.row import Job, Row, Section, Value
from orchestrator.specs.choices import DecayStyle, Precision, RecomputeGranularity

BATCH = Section(
    title="Batch",
    rows=(
        Row(
            key="train_batch_size",
            value=lambda j: j.training.global_batch_size,
            why="sequences of a step; DeepSpeed asserts that the three multiply out",
        ),
        Row(
            key="train_micro_batch_size_per_gpu",
            value=lambda j: j.layout.micro_batch_size,
            why="sequences of one pass",
        ),
        Row(
            key="gradient_accumulation_steps",
            value=lambda j: j.layout.num_microbatches(j.training.global_batch_size),
            why="passes of a step; left out it is derived by floor division",
        ),
        Row(
            key="sequence_parallel_size",
            value=lambda j: j.layout.cp if j.layout.cp > 1 else None,
            why="ranks that share a sequence (Ulysses); the world is divided by it",
        ),
    ),
)


def _gradient_format(job: Job) -> Value:
    # Without ZeRO gradients have the weights' format: DeepSpeed raises on any other.
    if job.layout.zero_stage == 0 or job.training.precision is Precision.FP32:
        return None
    return job.training.numerics.gradients


PRECISION = Section(
    title="Precision",
    rows=(
        Row(
            key="bf16.enabled",
            value=lambda j: j.training.precision is Precision.BF16,
            why="weights and activations in BF16, master weights in FP32",
        ),
        Row(
            key="fp16.enabled",
            value=lambda j: j.training.precision is Precision.FP16,
            why="weights and activations in FP16, master weights in FP32, dynamic loss scale",
        ),
        Row(
            key="data_types.grad_accum_dtype",
            value=_gradient_format,
            why="left out, gradients are accumulated in the weights' format",
        ),
    ),
)


def _warmup(job: Job) -> int:
    return job.optimizer.warmup_steps_of(job.plan.run.steps)


def _decays(job: Job) -> int:
    return job.optimizer.decay_steps_of(job.plan.run.steps)


OPTIMIZER = Section(
    title="Optimizer",
    rows=(
        Row(key="optimizer.type", value=lambda _: "AdamW", why="decoupled weight decay"),
        Row(
            key="optimizer.params.lr",
            value=lambda j: j.optimizer.learning_rate,
            why="the highest rate",
        ),
        Row(
            key="optimizer.params.betas",
            value=lambda j: (j.optimizer.beta1, j.optimizer.beta2),
            why="of the moments; the second defaults to 0.999",
        ),
        Row(key="optimizer.params.eps", value=lambda j: j.optimizer.epsilon, why="in Adam"),
        Row(
            key="optimizer.params.weight_decay",
            value=lambda j: j.optimizer.weight_decay,
            why="the default is 0.01",
        ),
        Row(
            key="gradient_clipping",
            value=lambda j: j.optimizer.clip_grad,
            why="largest norm of the gradients; the default clips nothing",
        ),
    ),
)

SCHEDULES = {
    DecayStyle.COSINE: "WarmupCosineLR",
    DecayStyle.LINEAR: "WarmupDecayLR",
    DecayStyle.CONSTANT: "WarmupLR",
}
"""DeepSpeed's names of the rates' shapes; it has no others that a run file can say."""


def _ratio(rate: float, job: Job) -> float:
    return rate / job.optimizer.learning_rate


def _cosine(job: Job) -> bool:
    return job.optimizer.decay_style is DecayStyle.COSINE


def _constant(job: Job) -> bool:
    return job.optimizer.decay_style is DecayStyle.CONSTANT


SCHEDULE = Section(
    title="Learning rate",
    rows=(
        Row(
            key="scheduler.type",
            value=lambda j: SCHEDULES.get(j.optimizer.decay_style),
            why="shape after the warm-up",
        ),
        Row(
            key="scheduler.params.warmup_num_steps",
            value=lambda j: max(1, _warmup(j)),
            why="steps until the highest rate; DeepSpeed takes no 0, and makes 2 of 1",
        ),
        Row(
            key="scheduler.params.warmup_type",
            value=lambda _: "linear",
            why="the default rises by logarithms",
        ),
        Row(
            key="scheduler.params.total_num_steps",
            value=lambda j: None if _constant(j) else _decays(j),
            why="step with the last rate",
        ),
        Row(
            key="scheduler.params.warmup_min_ratio",
            value=lambda j: _ratio(j.optimizer.initial_learning_rate, j) if _cosine(j) else None,
            why="the first rate, as a part of the highest",
        ),
        Row(
            key="scheduler.params.cos_min_ratio",
            value=lambda j: _ratio(j.optimizer.min_learning_rate, j) if _cosine(j) else None,
            why="the last rate, as a part of the highest",
        ),
        Row(
            key="scheduler.params.warmup_min_lr",
            value=lambda j: None if _cosine(j) else j.optimizer.initial_learning_rate,
            why="the first rate",
        ),
        Row(
            key="scheduler.params.warmup_max_lr",
            value=lambda j: None if _cosine(j) else j.optimizer.learning_rate,
            why="the highest rate; the default is 0.001",
        ),
    ),
)


def _recomputes(job: Job) -> bool:
    return job.layout.recompute.granularity is RecomputeGranularity.FULL


RECOMPUTE = Section(
    title="Activation checkpointing",
    applies=_recomputes,
    rows=(
        Row(
            key="activation_checkpointing.partition_activations",
            value=lambda _: False,
            why="only tensor parallel ranks could share a kept activation",
            yields=True,
        ),
        Row(
            key="activation_checkpointing.cpu_checkpointing",
            value=lambda _: False,
            why="kept activations stay on the GPU",
            yields=True,
        ),
        Row(
            key="activation_checkpointing.contiguous_memory_optimization",
            value=lambda _: False,
            why="needs the number of checkpoints known beforehand",
            yields=True,
        ),
    ),
)
"""It acts where a model calls `deepspeed.checkpointing`: these keys alone recompute nothing."""

PIPELINE = Section(
    title="Pipeline",
    applies=lambda j: j.layout.pp > 1,
    rows=(
        Row(
            key="pipeline.stages",
            value=lambda j: j.layout.pp,
            why="told to PipelineModule(num_stages=...) by the script; here for the record",
        ),
        Row(
            key="pipeline.activation_checkpoint_interval",
            value=lambda j: 1 if _recomputes(j) else None,
            why="layers between two kept inputs",
        ),
    ),
)


def _tensorboard(job: Job) -> str | None:
    return job.plan.run.spec.logging.tensorboard_dir


LOGS = Section(
    title="Logs",
    rows=(
        Row(
            key="steps_per_print",
            value=lambda j: j.plan.run.spec.logging.interval_steps,
            why="steps between lines of rank 0",
            yields=True,
        ),
        Row(
            key="wall_clock_breakdown",
            value=lambda _: False,
            why="forward, backward and step timed apart; each timer synchronises the GPU",
            yields=True,
        ),
        Row(
            key="comms_logger.enabled",
            value=lambda _: False,
            why="a block that is there turns the logger on in some releases: off is written",
            yields=True,
        ),
        Row(
            key="tensorboard.enabled",
            value=lambda j: True if _tensorboard(j) else None,
            why="event files",
            yields=True,
        ),
        Row(key="tensorboard.output_path", value=_tensorboard, why="their folder", yields=True),
        Row(
            key="tensorboard.job_name",
            value=lambda j: j.plan.run.name if _tensorboard(j) else None,
            why="a folder of its own for each run",
            yields=True,
        ),
    ),
)

CHECKPOINT = Section(
    title="Checkpoints",
    rows=(
        Row(
            key="checkpoint.tag_validation",
            value=lambda _: "Fail",
            why="ranks that save under different tags end the run; the default warns",
            yields=True,
        ),
        Row(
            key="checkpoint.load_universal",
            value=lambda _: False,
            why="true reads what ds_to_universal wrote, in any layout",
            yields=True,
        ),
    ),
)
