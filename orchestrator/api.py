"""The public names: from a run file or a question to a priced, ranked answer.

    run = api.read_run(text, file="run.yaml")
    report = api.plan(run)
    problems = api.problems(run)

Everything here is pure: text in, records out.
"""

from collections.abc import Callable, Mapping

from orchestrator.catalog.cards import cluster_card, model_card
from orchestrator.catalog.layouts import layout_spec_of
from orchestrator.catalog.resolve import resolve
from orchestrator.cost.quote import price
from orchestrator.engines.contract import Engine
from orchestrator.engines.registry import engine_named
from orchestrator.errors import InvalidFile, Problem
from orchestrator.planner.rank import plan as ranked
from orchestrator.records.bundle import EngineBundle
from orchestrator.records.calibration import Calibration
from orchestrator.records.engine import MEGATRON_FAMILY, EngineCapabilities
from orchestrator.records.layout import Layout
from orchestrator.records.plan import Plan, PlanReport
from orchestrator.records.run import ResolvedRun
from orchestrator.rules.table import violations
from orchestrator.specs.choices import Precision
from orchestrator.specs.cluster import ClusterSpec
from orchestrator.specs.document import examined, mapping_of, yaml_of
from orchestrator.specs.model import ModelCard, ReferenceTraining
from orchestrator.specs.run import RunSpec
from orchestrator.specs.training import TrainingSpec

__all__ = [
    "Engine",
    "EngineBundle",
    "Layout",
    "Plan",
    "PlanReport",
    "ResolvedRun",
    "RunSpec",
    "default_run",
    "engine_named",
    "plan",
    "price",
    "problems",
    "read_run",
    "run_file_of",
]


def read_run(
    text: str, *, file: str, capabilities: EngineCapabilities | None = None
) -> ResolvedRun:
    """Return the run that a run file's text says, every rule obeyed.

    Raises:
        InvalidFile: shape, names or rules are broken; all problems are reported together,
            as far as resolution succeeds.
    """
    spec, shape = examined(mapping_of(text, file=file), model=RunSpec)
    if spec is None:
        raise InvalidFile(file=file, problems=shape)
    try:
        run = resolve(spec, file=file)
    except InvalidFile as error:
        raise InvalidFile(file=file, problems=(*shape, *error.problems)) from error
    found = (*shape, *problems(run, capabilities=capabilities))
    if found:
        raise InvalidFile(file=file, problems=found)
    return run


def problems(
    run: ResolvedRun,
    *,
    layout: Layout | None = None,
    capabilities: EngineCapabilities | None = None,
) -> tuple[Problem, ...]:
    """Return every rule that a layout breaks: the one given, else the run's own.

    None is broken where the layout is still to be planned.
    """
    examined_layout = layout or run.layout
    if examined_layout is None:
        return ()
    return violations(run, examined_layout, capabilities=capabilities)


def default_run(
    *,
    model: str | ModelCard,
    cluster: str,
    gpus: int,
    precision: Precision,
    changes: Mapping[str, object] | None = None,
) -> ResolvedRun:
    """Return the run a model is known for (its card's reference training) on so many GPUs.

    `changes` are keys of `training` that are said otherwise.

    Raises:
        UnknownName: no such model or cluster card.
        InvalidFile: the GPUs are not whole hosts, or the card has no reference training.
    """
    card = model_card(model) if isinstance(model, str) else model
    cluster_card(cluster)
    known = {} if card.reference_training is None else _training_of(card.reference_training)
    training = {**known, "precision": precision, **(changes or {})}
    lacking = [name for name in _NEEDED if name not in training]
    if lacking:
        message = f"is needed to plan without a run file, or all of {', '.join(lacking)}"
        problem = Problem(key="reference_training", message=message)
        raise InvalidFile(file=f"model card {card.name}", problems=[problem])
    spec = RunSpec(
        schema=1,
        name=f"{card.name}-{gpus}",
        model=model,
        cluster=ClusterSpec(card=cluster, gpus=gpus),
        training=TrainingSpec.model_validate(training),
    )
    return resolve(spec, file="--gpus")


_NEEDED = ("sequence_length", "global_batch_size", "tokens")


def _training_of(reference: ReferenceTraining) -> dict[str, object]:
    return {name: getattr(reference, name) for name in _NEEDED}


def plan(
    run: ResolvedRun,
    *,
    capabilities: EngineCapabilities = MEGATRON_FAMILY,
    keep: int = 10,
    progress: Callable[[int, int], None] | None = None,
    calibration: Calibration | None = None,
) -> PlanReport:
    """Return the ranked layouts of a run, or its own layout priced where it has one.

    Raises:
        NoPlanFits: nothing obeys the rules and fits in memory; says what would have to change.
    """
    if run.layout is not None:
        priced = price(run, run.layout, calibration=calibration)
        return PlanReport(plans=(priced,), rejected=(), evaluated=1)
    return ranked(
        run, capabilities=capabilities, keep=keep, progress=progress, calibration=calibration
    )


def run_file_of(plan: Plan) -> str:
    """Return the run file that says a plan: the run with the plan's layout written into it."""
    spec = plan.run.spec.model_copy(update={"layout": layout_spec_of(plan.layout)})
    header = (
        f"# Modelled: {plan.step_time_s:.3g} s a step, {plan.mfu:.1%} MFU, "
        f"{plan.memory.total_bytes / 2**30:.1f} GiB on the fullest rank.\n"
        "# To launch it, add data: and checkpoint: (llmorch schema lists every key).\n"
    )
    return header + yaml_of(spec)
