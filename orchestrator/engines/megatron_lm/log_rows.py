"""What `pretrain_gpt.py` is told of logs and of evaluation."""

from orchestrator.engines.megatron_lm.row import Job, Row, Section, Value
from orchestrator.specs.training import EvaluationSpec


def _evaluation(job: Job) -> EvaluationSpec | None:
    return job.training.evaluation


def _interval(job: Job) -> int:
    # It has no default and is divided by at start: where nothing is evaluated, the last step.
    evaluation = _evaluation(job)
    return job.plan.run.steps if evaluation is None else evaluation.interval_steps


def _steps(job: Job) -> int:
    evaluation = _evaluation(job)
    return 0 if evaluation is None else evaluation.steps


def _writes_events(job: Job) -> bool:
    return job.plan.run.spec.logging.tensorboard_dir is not None


def _events(job: Job) -> Value:
    return job.plan.run.spec.logging.tensorboard_dir


EVALUATION = Section(
    title="Evaluation",
    rows=(
        Row(
            flag="--eval-interval",
            value=_interval,
            why="has no default and is divided by at start",
        ),
        Row(
            flag="--eval-iters",
            value=_steps,
            why="global batches of an evaluation; the default is 100, 0 is none",
        ),
    ),
)

LOGS = Section(
    title="Logs",
    yields=True,
    rows=(
        Row(
            flag="--log-interval",
            value=lambda j: j.plan.run.spec.logging.interval_steps,
            why="steps between lines; the default is 100",
        ),
        Row(flag="--log-throughput", value=lambda _: True, why="TFLOP/s of a GPU in each line"),
        Row(
            flag="--log-progress",
            value=lambda j: j.plan.run.spec.checkpoint is not None,
            why="progress.txt beside the checkpoints: jobs, steps, tokens",
        ),
        Row(flag="--tensorboard-dir", value=_events, why="event files"),
        Row(flag="--log-timers-to-tensorboard", value=_writes_events, why="where time goes"),
        Row(flag="--log-memory-to-tensorboard", value=_writes_events, why="memory of rank 0"),
        Row(
            flag="--log-validation-ppl-to-tensorboard",
            value=lambda j: _writes_events(j) and _evaluation(j) is not None,
            why="held-out perplexity",
        ),
    ),
)

FLIGHT_RECORDER = Section(
    title="Flight recorder",
    yields=True,
    applies=lambda j: j.plan.run.spec.checkpoint is not None,
    rows=(
        Row(
            flag="--flight-recorder-dump-path",
            value=lambda j: f"{j.plan.run.name}.flight",
            why="the last collectives of each rank, written when one times out",
        ),
    ),
)
"""From 0.17 on."""
