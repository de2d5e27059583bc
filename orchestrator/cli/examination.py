"""What `validate` finds: problems and warnings, and the plan with its rank map and memory."""

from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator import api
from orchestrator.catalog.resolve import resolve
from orchestrator.cli.files import text_of
from orchestrator.cli.plan_json import plan_document
from orchestrator.cli.plan_table import headline
from orchestrator.errors import (
    EngineRefused,
    ExitCode,
    InvalidFile,
    LlmorchError,
    Problem,
    UnknownName,
    nearest,
)
from orchestrator.records.engine import EngineCapabilities
from orchestrator.records.layout import Layout
from orchestrator.records.plan import Plan
from orchestrator.records.run import ResolvedRun
from orchestrator.rules.engine import ENGINE_RULES
from orchestrator.rules.table import source_of, violations, warnings
from orchestrator.specs.choices import Via
from orchestrator.specs.document import examined as examined_shape
from orchestrator.specs.document import mapping_of
from orchestrator.specs.run import RunSpec
from orchestrator.topology.placement import crossing_groups
from orchestrator.topology.ranks import groups
from orchestrator.units import gib, text_of_seconds

SCHEMA = 1
_AXES = ("tp", "cp", "dp", "pp")
_SHOWN_GROUPS = 3
_RENDERING = "engine-render"
"""The rule of what an engine says when it is asked for its files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """A run file's problems, and its plan where there are none.

    Warnings are of what is allowed and yet ends worse than somebody may expect.
    """

    file: str
    problems: tuple[Problem, ...]
    plan: Plan | None
    warnings: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> ExitCode:
        """Return what `validate` ends with: 5 where only the engine stands in the way."""
        if not self.problems:
            return ExitCode.OK
        if all(problem.rule in {*ENGINE_RULES, _RENDERING} for problem in self.problems):
            return ExitCode.ENGINE_REFUSES
        return ExitCode.INVALID_FILE

    @property
    def talk(self) -> tuple[str, ...]:
        """Return the lines of the warnings."""
        return tuple(f"{self.file}: warning: {warning}" for warning in self.warnings)

    def error(self) -> LlmorchError:
        """Return the problems as an error, for a command that cannot go on."""
        if self.exit_code is ExitCode.ENGINE_REFUSES:
            reason = "\n".join(f"{self.file}: {problem}" for problem in self.problems)
            return EngineRefused(engine="the engine", reason=reason)
        return InvalidFile(file=self.file, problems=self.problems)


def examined(path: Path) -> Examination:
    """Return what the rules and the memory model say of a run file.

    A run file without a layout is planned first. Problems of shape, names, rules and engine are
    found in one reading, as far as the names in it mean something.

    Raises:
        NoPlanFits: no layout is given and none fits.
    """
    file, text = str(path), text_of(path)
    try:
        spec, shape = examined_shape(mapping_of(text, file=file), model=RunSpec)
    except InvalidFile as error:
        return Examination(file=file, problems=error.problems, plan=None)
    if spec is None:
        return Examination(file=file, problems=shape, plan=None)
    engine, unknown = _engine(spec)
    try:
        run = resolve(spec, file=file)
    except InvalidFile as error:
        problems = (*shape, *unknown, *error.problems)
        return Examination(file=file, problems=problems, plan=None)
    return _of_run(run, engine, file=file, before=(*shape, *unknown))


def _engine(spec: RunSpec) -> tuple[api.Engine | None, tuple[Problem, ...]]:
    try:
        return api.engine_named(spec.engine.name), ()
    except UnknownName as error:
        problem = Problem(
            key="engine.name",
            message=f"unknown engine '{error.name}'",
            possible=nearest(error.name, error.known),
        )
        return None, (problem,)


def _of_run(
    run: ResolvedRun, engine: api.Engine | None, *, file: str, before: tuple[Problem, ...]
) -> Examination:
    capabilities = None if engine is None else engine.capabilities()
    broken = _broken(run, run.layout, capabilities)
    if before or broken or engine is None or capabilities is None:
        return Examination(
            file=file,
            problems=(*before, *broken),
            plan=None,
            warnings=_warnings(run, run.layout, capabilities),
        )
    plan = api.plan(run, capabilities=capabilities, keep=1).plans[0]
    problems = (*_broken(run, plan.layout, capabilities), *_memory_problems(plan))
    problems = problems or _rendering_problems(engine, plan)
    return Examination(
        file=file,
        problems=problems,
        plan=None if problems else plan,
        warnings=_warnings(run, plan.layout, capabilities),
        notes=_notes(plan, capabilities),
    )


def _broken(
    run: ResolvedRun, layout: Layout | None, capabilities: EngineCapabilities | None
) -> tuple[Problem, ...]:
    return () if layout is None else violations(run, layout, capabilities=capabilities)


def _warnings(
    run: ResolvedRun, layout: Layout | None, capabilities: EngineCapabilities | None
) -> tuple[Problem, ...]:
    return () if layout is None else warnings(run, layout, capabilities=capabilities)


def examination_document(found: Examination) -> dict[str, Any]:
    """Return the answer of `llmorch validate --json`."""
    return {
        "schema": SCHEMA,
        "file": found.file,
        "valid": not found.problems,
        "problems": [_problem_document(problem) for problem in found.problems],
        "warnings": [_problem_document(warning) for warning in found.warnings],
        "notes": list(found.notes),
        "plan": plan_document(found.plan) if found.plan else None,
    }


def _problem_document(problem: Problem) -> dict[str, str]:
    """Return a problem: the rule's id, the field, what is wrong, what would pass, who says so."""
    return {**asdict(problem), "source": source_of(problem.rule)}


def examination_picture(found: Examination) -> RenderableType:
    """Return the groups and the modelled costs of a run file that passed every rule."""
    plan = found.plan
    assert plan is not None  # noqa: S101
    layout, machine = plan.layout, plan.run.machine
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("axis", "degree", "groups", "across hosts"):
        table.add_column(column, justify="left" if column == "axis" else "right")
    table.add_column("first groups")
    for axis in _AXES:
        found_groups = groups(layout, axis)
        if len(found_groups[0]) == 1:
            continue
        crossing = crossing_groups(layout, machine, axis)
        first = " ".join(_group_text(group) for group in found_groups[:_SHOWN_GROUPS])
        degree = str(len(found_groups[0]))
        table.add_row(axis, degree, str(len(found_groups)), str(len(crossing)), first)
    usable = gib(machine.memory_bytes)
    return Group(
        Text(headline(plan.run)),
        table,
        Text(
            f"modelled: {gib(plan.memory.total_bytes):.2f} of {usable:.1f} GiB on the fullest "
            f"rank, {text_of_seconds(plan.step_time_s)} a step, "
            f"bubble {plan.bubble.fraction:.1%} ({plan.bubble.measure})"
        ),
        *(Text(f"note: {note}") for note in found.notes),
    )


def _notes(plan: Plan, capabilities: EngineCapabilities) -> tuple[str, ...]:
    """Return what is allowed and yet not what somebody may expect."""
    notes = []
    ignored = [axis.value for axis in plan.layout.overlap if axis not in capabilities.overlaps]
    if ignored:
        axes = " and ".join(ignored)
        notes.append(f"{capabilities.name} does not overlap {axes} yet; the times assume it does")
    spec = plan.run.spec
    absent = _absent(plan, capabilities)
    if absent:
        act = "launch" if capabilities.reports else "generate"
        notes.append(f"to {act} it, the run file needs {' and '.join(absent)}")
    if plan.run.machine.spares and spec.launch.via is Via.LOCAL:
        notes.append("spares mean nothing on one machine (launch.via: local)")
    return tuple(notes)


def _absent(plan: Plan, capabilities: EngineCapabilities) -> list[str]:
    """Return what a run file needs to be launched, or generated, and has not."""
    spec = plan.run.spec
    sections = ("data", "checkpoint") if capabilities.reports else ()
    own = [name for name in ("checkout", "script") if name in capabilities.fields]
    return [
        *(name for name in sections if getattr(spec, name) is None),
        *(f"engine.{name}" for name in own if getattr(spec.engine, name) is None),
    ]


def _rendering_problems(engine: api.Engine, plan: Plan) -> tuple[Problem, ...]:
    """Return why the engine would not render its files: what it alone knows."""
    if _absent(plan, engine.capabilities()):
        return ()
    try:
        engine.render(plan)
    except EngineRefused as error:
        return tuple(_rendering_problem(line) for line in error.reason.splitlines())
    return ()


def _rendering_problem(line: str) -> Problem:
    """Return what an engine said, under the key of the run file that it begins with."""
    key, _, message = line.partition(": ")
    if not message or " " in key:
        return Problem(key="engine", message=line, rule=_RENDERING)
    return Problem(key=key, message=message, rule=_RENDERING)


def _memory_problems(plan: Plan) -> tuple[Problem, ...]:
    need, have = gib(plan.memory.total_bytes), gib(plan.run.machine.memory_bytes)
    if need <= have:
        return ()
    largest = max(asdict(plan.memory).items(), key=lambda item: item[1])
    name = largest[0].removesuffix("_bytes")
    return (
        Problem(
            key="layout",
            message=f"the fullest rank needs {need:.1f} GiB (modelled), an accelerator has "
            f"{have:.1f} GiB; the largest part is {name}, {gib(largest[1]):.1f} GiB",
            possible="raise tp or pp, lower micro_batch_size, or recompute more",
            rule="memory",
        ),
    )


def _group_text(group: tuple[int, ...]) -> str:
    step = group[1] - group[0]
    even = all(b - a == step for a, b in pairwise(group))
    if len(group) <= 4 or not even:  # noqa: PLR2004  four ranks are short enough to list
        return "[" + " ".join(str(rank) for rank in group[:8]) + (" ...]" if group[8:] else "]")
    return f"[{group[0]} {group[1]} ... {group[-1]}]"
