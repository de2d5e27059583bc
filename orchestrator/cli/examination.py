"""What `validate` finds: problems, or the plan with its rank map and memory."""

from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator import api
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
from orchestrator.records.plan import Plan
from orchestrator.rules.engine import ENGINE_RULES
from orchestrator.specs.choices import Via
from orchestrator.topology.placement import crossing_groups
from orchestrator.topology.ranks import groups
from orchestrator.units import gib, text_of_seconds

SCHEMA = 1
_AXES = ("tp", "cp", "dp", "pp")
_SHOWN_GROUPS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """A run file's problems, and its plan where there are none."""

    file: str
    problems: tuple[Problem, ...]
    plan: Plan | None
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> ExitCode:
        """Return what `validate` ends with: 5 where only the engine stands in the way."""
        if not self.problems:
            return ExitCode.OK
        if all(problem.rule in ENGINE_RULES for problem in self.problems):
            return ExitCode.ENGINE_REFUSES
        return ExitCode.INVALID_FILE

    def error(self) -> LlmorchError:
        """Return the problems as an error, for a command that cannot go on."""
        if self.exit_code is ExitCode.ENGINE_REFUSES:
            reason = "\n".join(f"{self.file}: {problem}" for problem in self.problems)
            return EngineRefused(engine="the engine", reason=reason)
        return InvalidFile(file=self.file, problems=self.problems)


def examined(path: Path) -> Examination:
    """Return what the rules and the memory model say of a run file.

    A run file without a layout is planned first.

    Raises:
        NoPlanFits: no layout is given and none fits.
    """
    file = str(path)
    try:
        run = api.read_run(text_of(path), file=file)
        engine = api.engine_named(run.spec.engine.name)
    except InvalidFile as error:
        return Examination(file=file, problems=error.problems, plan=None)
    except UnknownName as error:
        problem = Problem(
            key="engine.name",
            message=f"unknown engine '{error.name}'",
            possible=nearest(error.name, error.known),
        )
        return Examination(file=file, problems=(problem,), plan=None)
    capabilities = engine.capabilities()
    plan = api.plan(run, capabilities=capabilities, keep=1).plans[0]
    broken = api.problems(run, layout=plan.layout, capabilities=capabilities)
    problems = (*broken, *_memory_problems(plan))
    return Examination(
        file=file,
        problems=problems,
        plan=None if problems else plan,
        notes=_notes(plan, capabilities),
    )


def examination_document(found: Examination) -> dict[str, Any]:
    """Return the answer of `llmorch validate --json`."""
    return {
        "schema": SCHEMA,
        "file": found.file,
        "valid": not found.problems,
        "problems": [asdict(problem) for problem in found.problems],
        "notes": list(found.notes),
        "plan": plan_document(found.plan) if found.plan else None,
    }


def examination_picture(found: Examination) -> RenderableType:
    """Return the rank map and the modelled costs of a valid run file."""
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
        Text(f"{found.file}: valid", style="green"),
    )


def _notes(plan: Plan, capabilities: EngineCapabilities) -> tuple[str, ...]:
    """Return what is allowed and yet not what somebody may expect."""
    notes = []
    ignored = [axis.value for axis in plan.layout.overlap if axis not in capabilities.overlaps]
    if ignored:
        axes = " and ".join(ignored)
        notes.append(f"{capabilities.name} does not overlap {axes} yet; the times assume it does")
    spec = plan.run.spec
    absent = [name for name in ("data", "checkpoint") if getattr(spec, name) is None]
    if absent:
        notes.append(f"to launch it, the run file needs {' and '.join(absent)}")
    if plan.run.machine.spares and spec.launch.via is Via.LOCAL:
        notes.append("spares mean nothing on one machine (launch.via: local)")
    return tuple(notes)


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
