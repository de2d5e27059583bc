"""What of a well-formed training programme cannot be run, before any engine is imported.

`support` asks the same of the model and the layout. Messages name the key and what would work.
"""

import importlib.util
import math
from collections.abc import Iterator

from launch.workers.megatron_core.arguments import ENGINE, Arguments
from launch.workers.megatron_core.programme import (
    DataArguments,
    DecayStyle,
    OptimizerArguments,
)
from orchestrator.errors import EngineRefused, Problem


def require_programme(arguments: Arguments, *, world_size: int) -> None:
    """Refuse a programme that this worker cannot follow from its first step to its last.

    Raises:
        EngineRefused: names every problem.
    """
    problems = [
        *_refused_ramp(arguments, world_size),
        *_refused_rate(arguments.training.optimizer),
        *_refused_data(arguments.data),
        *_refused_evaluation(arguments),
        *_refused_logging(arguments),
    ]
    if problems:
        raise EngineRefused(engine=ENGINE, reason="\n".join(str(problem) for problem in problems))


def _refused_ramp(arguments: Arguments, world_size: int) -> Iterator[Problem]:
    training = arguments.training
    share = training.micro_batch_size * arguments.dp(world_size)
    before = -1
    for i, phase in enumerate(training.batch_ramp):
        key = f"training.batch_ramp[{i}]"
        if i == 0 and phase.first_step != 0:
            yield Problem(key=key, message=f"first_step {phase.first_step}: it begins at 0")
        elif phase.first_step <= before:
            message = f"first_step {phase.first_step} is not after {before}, where the last begins"
            yield Problem(key=key, message=message)
        before = phase.first_step
        if phase.global_batch_size < 1 or phase.global_batch_size % share:
            message = f"{phase.global_batch_size} is not a multiple of micro batch x dp = {share}"
            yield Problem(key=f"{key}.global_batch_size", message=message)
    last = training.batch_ramp[-1].global_batch_size if training.batch_ramp else None
    if last is not None and last != training.global_batch_size:
        message = f"ends with {last}, and training.global_batch_size is "
        yield Problem(key="training.batch_ramp", message=f"{message}{training.global_batch_size}")


def _refused_rate(optimizer: OptimizerArguments) -> Iterator[Problem]:
    key = "training.optimizer"
    if not 0 <= optimizer.min_learning_rate <= optimizer.learning_rate:
        message = f"{optimizer.min_learning_rate} is not between 0 and {optimizer.learning_rate}"
        yield Problem(key=f"{key}.min_learning_rate", message=message)
    if not 0 <= optimizer.initial_learning_rate <= optimizer.learning_rate:
        rate = optimizer.initial_learning_rate
        message = f"{rate} is not between 0 and {optimizer.learning_rate}"
        yield Problem(key=f"{key}.initial_learning_rate", message=message)
    if not 0 <= optimizer.warmup_steps < optimizer.decay_steps:
        message = f"{optimizer.warmup_steps} is not below decay_steps {optimizer.decay_steps}"
        yield Problem(key=f"{key}.warmup_steps", message=message)
    wsd = optimizer.wsd_decay_steps
    is_wsd = optimizer.decay_style is DecayStyle.WSD
    if is_wsd and (wsd is None or not 0 < wsd <= optimizer.decay_steps):
        message = f"{wsd} is not between 1 and decay_steps {optimizer.decay_steps}"
        yield Problem(key=f"{key}.wsd_decay_steps", message=message)
    if not is_wsd and (wsd is not None or optimizer.wsd_decay_style is not None):
        message = f"of no use when decay_style is {optimizer.decay_style}"
        yield Problem(key=f"{key}.wsd_decay_steps", message=message)


def _refused_data(data: DataArguments) -> Iterator[Problem]:
    if not data.sources:
        yield Problem(key="data.sources", message="empty, and training needs a corpus")
    for i, source in enumerate(data.sources):
        if not 0 < source.weight < math.inf:
            yield Problem(
                key=f"data.sources[{i}].weight",
                message=f"{source.weight} is no share of the samples",
                possible="use a number above 0, or leave the corpus out",
            )
    for prefix in sorted({p for p in data.prefixes if data.prefixes.count(p) > 1}):
        message = f"{prefix} is there twice: add its weights up"
        yield Problem(key="data.sources", message=message)
    try:
        training, _ = data.shares()
    except ValueError:
        training = 0.0
    if training == 0:
        yield Problem(
            key="data.split",
            message=f"'{data.split}' leaves nothing to train on",
            possible="up to three numbers, the first above 0, as in 99,1,0",
        )


def _refused_evaluation(arguments: Arguments) -> Iterator[Problem]:
    evaluation, key = arguments.training.evaluation, "training.evaluation"
    if evaluation is None:
        return
    for name, value in (("interval_steps", evaluation.interval_steps), ("steps", evaluation.steps)):
        if value < 1:
            yield Problem(key=f"{key}.{name}", message=f"{value} is below 1")
    try:
        _, held_out = arguments.data.shares()
    except ValueError:
        return  # said already
    if held_out == 0:
        yield Problem(
            key="data.split",
            message=f"{arguments.data.split} holds no documents for {key}",
            possible="give its second number a share, as in 99,1,0",
        )


def _refused_logging(arguments: Arguments) -> Iterator[Problem]:
    logging = arguments.logging
    if logging.interval_steps < 1:
        message = f"{logging.interval_steps} is below 1"
        yield Problem(key="logging.interval_steps", message=message)
    if logging.tensorboard_dir is not None and not importlib.util.find_spec("tensorboard"):
        yield Problem(
            key="logging.tensorboard_dir",
            message="needs the package tensorboard, which is not installed here",
            possible="install llmorch[metrics] where ranks run, or leave tensorboard_dir out",
        )
