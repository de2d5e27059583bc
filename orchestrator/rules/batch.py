"""Rules on the batch: microbatches are whole, and the run has what it needs to be resumed."""

from collections.abc import Iterator

from orchestrator.errors import Problem
from orchestrator.rules.rule import Rule, Subject, divisors, possible


def _microbatches(subject: Subject) -> Iterator[Problem]:
    layout, batch = subject.layout, subject.run.training.global_batch_size
    share = layout.micro_batch_size * layout.dp
    if batch < share:
        yield Problem(
            key="training.global_batch_size",
            message=f"{batch} is less than micro_batch_size {layout.micro_batch_size} "
            f"x dp {layout.dp} = {share}: some replicas would have nothing to do",
            possible=f"use a global_batch_size of {share} or more, or more tp, cp or pp",
            rule="microbatches",
        )
    elif batch % share:
        low = batch // share * share
        fits = [str(value) for value in (low, low + share) if value > 0]
        micro = tuple(d for d in divisors(batch) if batch % (d * layout.dp) == 0)
        near = possible(micro, near=layout.micro_batch_size).removeprefix("possible: ")
        instead = f", or micro_batch_size {near}" if near else ""
        yield Problem(
            key="training.global_batch_size",
            message=f"{batch} is not a multiple of micro_batch_size {layout.micro_batch_size} "
            f"x dp {layout.dp} = {share}",
            possible=f"possible: {' or '.join(fits)}{instead}",
            rule="microbatches",
        )


def _warmup(subject: Subject) -> Iterator[Problem]:
    warmup, steps = subject.run.training.optimizer.warmup_steps, subject.run.steps
    if warmup >= steps:
        yield Problem(
            key="training.optimizer.warmup_steps",
            message=f"{warmup} is not below the {steps} steps of the run",
            possible=f"use {max(0, steps // 100)} (one step in a hundred)",
            rule="warmup",
        )


RULES = (
    Rule(
        id="microbatches",
        condition="micro_batch_size x dp divides the global batch",
        source="Megatron's microbatch calculator",
        since="megatron-core@0.12",
        check=_microbatches,
    ),
    Rule(
        id="warmup",
        condition="the learning rate's warm-up is shorter than the run",
        source="Megatron OptimizerParamScheduler",
        since="megatron-core@0.12",
        check=_warmup,
    ),
)
