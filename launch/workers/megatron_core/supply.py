"""Whether the corpora hold enough for every rank, asked before the first step."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from megatron.core.datasets.blended_dataset import BlendedDataset

from launch.workers.megatron_core.arguments import ENGINE, Arguments
from launch.workers.megatron_core.dataset import Datasets, samples_per_epoch
from orchestrator.errors import EngineRefused, Problem


def require_supply(arguments: Arguments, datasets: Datasets) -> None:
    """Refuse corpora that leave a rank without a sample of its own.

    Raises:
        EngineRefused: names every problem.
    """
    problems = [*_training(arguments, datasets.training), *_held_out(arguments, datasets.held_out)]
    if problems:
        raise EngineRefused(engine=ENGINE, reason="\n".join(str(problem) for problem in problems))


def _training(arguments: Arguments, dataset: Any) -> Iterator[Problem]:  # noqa: ANN401 - untyped
    counts = samples_per_epoch(dataset)
    batch, length = arguments.training.global_batch_size, arguments.training.sequence_length
    for i, count in enumerate(counts):
        if count == 0:
            yield _too_short(arguments, i, "training")
    if 0 < sum(counts) < batch:
        yield Problem(
            key="data.sources",
            message=f"{sum(counts)} samples of {length} tokens, and a step takes {batch}: "
            "some ranks would have none of their own",
            possible="use a larger corpus, a shorter sequence_length or a smaller batch",
        )


def _held_out(arguments: Arguments, dataset: Any) -> Iterator[Problem]:  # noqa: ANN401 - untyped
    evaluation = arguments.training.evaluation
    if evaluation is None:
        return
    if dataset is None:
        yield Problem(
            key="data.split",
            message=f"{arguments.data.split} holds no documents for evaluation",
            possible="give its second number a share, as in 99,1,0",
        )
        return
    batch = arguments.training.global_batch_size
    wanted = _wanted(dataset, evaluation.steps * batch)
    for i, count in enumerate(samples_per_epoch(dataset)):
        if count == 0:
            yield _too_short(arguments, i, "evaluation")
        elif count < wanted[i]:
            yield Problem(
                key="training.evaluation.steps",
                message=f"{evaluation.steps} batches of {batch} take {wanted[i]} held-out samples "
                f"of {arguments.data.prefixes[i]}, and it has {count}",
                possible="evaluate fewer steps, or hold out more (data.split)",
            )


def _wanted(dataset: Any, num_samples: int) -> list[int]:  # noqa: ANN401 - untyped engine
    """How many of the first samples come from each corpus."""
    if not isinstance(dataset, BlendedDataset):
        return [num_samples]
    chosen = dataset.dataset_index[:num_samples]
    return [int(n) for n in np.bincount(chosen, minlength=len(dataset.datasets))]


def _too_short(arguments: Arguments, source: int, use: str) -> Problem:
    length = f"{arguments.training.sequence_length} tokens"
    return Problem(
        key=f"data.sources[{source}]",
        message=f"{arguments.data.prefixes[source]}: the corpus's part for {use} is too short for "
        f"one sample of {length} (split {arguments.data.split})",
        possible="use a larger corpus, or a shorter sequence_length",
    )
