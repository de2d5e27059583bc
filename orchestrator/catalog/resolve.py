"""From a run file to a resolved run: names looked up, hosts counted, dp derived."""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from orchestrator.catalog.cards import accelerator_of, cluster_card, model_card
from orchestrator.catalog.check import figure_problems
from orchestrator.catalog.layouts import layout_of
from orchestrator.errors import InvalidFile, Problem, UnknownName, nearest
from orchestrator.records.batch_ramp import ramp_of, ramp_problems
from orchestrator.records.run import Machine, ResolvedRun
from orchestrator.specs.cluster import AcceleratorCard, ClusterCard, ClusterSpec
from orchestrator.specs.model import ModelCard
from orchestrator.specs.run import RunSpec
from orchestrator.specs.training import TrainingSpec

Found = TypeVar("Found")


def resolve(spec: RunSpec, *, file: str) -> ResolvedRun:
    """Return the run with every name looked up and every derived number known.

    Raises:
        InvalidFile: a card does not exist or the accelerators are not whole hosts.
    """
    problems: list[Problem] = []
    model = (
        spec.model
        if isinstance(spec.model, ModelCard)
        else _looked_up(model_card, spec.model, key="model", problems=problems)
    )
    machine = _machine(spec.cluster, problems)
    problems += ramp_problems(spec.training)
    if model is None or machine is None or problems:
        raise InvalidFile(file=file, problems=problems)
    world_size = machine.world_size
    layout = (
        layout_of(spec.layout, model=model, world_size=world_size, engine=spec.engine.name)
        if spec.layout
        else None
    )
    return ResolvedRun(
        spec=spec,
        model=model,
        machine=machine,
        training=spec.training,
        steps=_steps(spec.training),
        layout=layout,
    )


def _looked_up(
    look: Callable[[str], Found], name: str, *, key: str, problems: list[Problem]
) -> Found | None:
    try:
        return look(name)
    except UnknownName as error:
        problems.append(
            Problem(
                key=key,
                message=f"unknown {error.kind} '{name}'",
                possible=nearest(name, error.known),
            )
        )
        return None


def _machine(spec: ClusterSpec, problems: list[Problem]) -> Machine | None:
    card = (
        spec.card
        if isinstance(spec.card, ClusterCard)
        else _looked_up(cluster_card, spec.card, key="cluster.card", problems=problems)
    )
    if card is None:
        return None
    accelerator = _accelerator(card, problems)
    hosts = _hosts(spec, card, problems)
    if accelerator is None or hosts is None:
        return None
    per_host = card.gpus_per_host
    return Machine(
        cluster=card,
        accelerator=accelerator,
        hosts=hosts,
        gpus_per_host=min(spec.gpus, per_host) if spec.gpus is not None else per_host,
        spares=spec.spares,
    )


def _accelerator(card: ClusterCard, problems: list[Problem]) -> AcceleratorCard | None:
    key = "cluster.card.accelerator"
    if isinstance(card.accelerator, AcceleratorCard):
        wrong = figure_problems(card.accelerator)
        problems += [replace(problem, key=f"{key}.{problem.key}") for problem in wrong]
        return None if wrong else card.accelerator
    return _looked_up(lambda _: accelerator_of(card), card.accelerator, key=key, problems=problems)


def _hosts(spec: ClusterSpec, card: ClusterCard, problems: list[Problem]) -> int | None:
    per_host = card.gpus_per_host
    if spec.gpus is None:
        return spec.hosts
    if spec.gpus > per_host and spec.gpus % per_host:
        low = spec.gpus // per_host * per_host
        problems.append(
            Problem(
                key="cluster.gpus",
                message=f"{spec.gpus} is not a whole number of {card.name} hosts "
                f"of {per_host} GPUs",
                possible=f"possible: {low} or {low + per_host}",
                rule="whole-hosts",
            )
        )
        return None
    return -(-spec.gpus // per_host)


def _steps(training: TrainingSpec) -> int:
    if training.steps is not None:
        return training.steps
    samples = -(-(training.tokens or 1) // training.sequence_length)
    return ramp_of(training).steps_for(samples)
