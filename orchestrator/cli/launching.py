"""From a run file to a supervised run: the one place where deciding and acting meet."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from launch.launchers.contract import Launcher
from launch.launchers.registry import find_launcher
from launch.request import LaunchRequest
from launch.run_directory import RunDirectory, write_whole
from launch.supervisor.outcome import RunOutcome
from orchestrator import api
from orchestrator.cli.examination import examined
from orchestrator.cli.plan_json import plan_document
from orchestrator.cli.training_view import TrainingView
from orchestrator.errors import EngineRefused, Interrupted, LlmorchError
from orchestrator.records.plan import Plan
from orchestrator.specs.choices import StarterKind, Via


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A start that has not happened yet: the plan, and exactly what would be started."""

    plan: Plan
    launcher: Launcher
    request: LaunchRequest
    notes: tuple[str, ...]


def prepared(run_file: Path, *, via: Via | None = None, hostfile: Path | None = None) -> Prepared:
    """Return what launching a run file would start; `via` and `hostfile` overrule it.

    Raises:
        InvalidFile: the run file breaks its format or a rule, or does not fit in memory.
        EngineRefused, HostError: engine or launcher cannot run it.
    """
    found = examined(run_file)
    if found.plan is None:
        raise found.error()
    plan = _overruled(found.plan, via=via, hostfile=hostfile)
    spec = plan.run.spec
    engine = api.engine_named(spec.engine.name)
    if not engine.capabilities().reports:
        raise EngineRefused(
            engine=spec.engine.name,
            reason="its ranks do not report their steps, so a run of it cannot be supervised yet",
            instead=f"llmorch generate {run_file} --to out, then out/run.sh on each host",
        )
    if spec.launch.starter is StarterKind.TORCHRUN:
        raise EngineRefused(
            engine=spec.engine.name,
            reason="launch.starter: torchrun, and llmorch launch starts ranks by its own agents",
            instead=f"llmorch generate {run_file} --to out, or leave launch.starter out",
        )
    bundle = engine.render(plan)
    launcher = find_launcher(spec.launch.via.value)
    request = launcher.prepare(bundle, plan.run)
    notes = (*found.notes, *_unused(plan))
    return Prepared(plan=plan, launcher=launcher, request=request, notes=notes)


def _overruled(plan: Plan, *, via: Via | None, hostfile: Path | None) -> Plan:
    """Return the plan with what the command line says in place of the run file's words."""
    changes = {"via": via, "hostfile": None if hostfile is None else str(hostfile)}
    given = {key: value for key, value in changes.items() if value is not None}
    spec = plan.run.spec
    launch = spec.launch.model_copy(update=given)
    return replace(plan, run=replace(plan.run, spec=spec.model_copy(update={"launch": launch})))


def _unused(plan: Plan) -> tuple[str, ...]:
    """Return a note for each setting that is given and that this launcher does not honour."""
    spec = plan.run.spec.launch
    names = spec.ssh_settings()
    if spec.via is Via.SSH:
        return (
            ("cluster.spares: ssh does not use spare hosts yet",) if plan.run.machine.spares else ()
        )
    settings = ", ".join(f"launch.{name}" for name in names)
    return (f"{settings}: only launch.via ssh uses that",) if names else ()


def launched(start: Prepared, *, run_dir: Path | None, console: Console) -> RunOutcome:
    """Start a run, supervise it to its end and return what it came to.

    Raises:
        StorageError: the run directory cannot be made, or holds a run already.
    """
    directory = RunDirectory.create(run_dir or _free_folder(start.plan))
    write_whole(directory.run_file, api.run_file_of(start.plan))
    write_whole(directory.plan, json.dumps(plan_document(start.plan), indent=2) + "\n")
    console.print(f"run directory: {directory.path}", soft_wrap=True)
    for note in start.notes:
        console.print(f"note: {note}", markup=False)
    try:
        with TrainingView(console, last_step=start.request.last_step) as view:
            return start.launcher.submit(start.request, directory, view)
    except LlmorchError:
        _take_back(directory)
        raise
    except KeyboardInterrupt:
        _take_back(directory)
        raise Interrupted(what="interrupted before any rank was started") from None


def resumed(start: Prepared, *, directory: RunDirectory, console: Console) -> RunOutcome:
    """Go on with the run of a directory, supervise it to its end and return what it came to.

    Raises:
        HostError, StorageError: another controller is at work on it, or it cannot be read.
    """
    console.print(f"run directory: {directory.path}", soft_wrap=True)
    try:
        with TrainingView(console, last_step=start.request.last_step) as view:
            return start.launcher.resume(start.request, directory, view)
    except KeyboardInterrupt:
        raise Interrupted(what="interrupted before the run was taken over") from None


def _take_back(directory: RunDirectory) -> None:
    """Remove the run directory that we just made, if no rank was ever started in it."""
    if not any(directory.logs.glob("generation-*")):
        shutil.rmtree(directory.path, ignore_errors=True)


def keep_summary(document: Mapping[str, Any], outcome: RunOutcome) -> None:
    """Write the summary into the run directory."""
    directory = RunDirectory(Path(outcome.run_directory))
    write_whole(directory.summary, json.dumps(document, indent=2) + "\n")


def _free_folder(plan: Plan) -> Path:
    """Return the run's folder, numbered where runs of that name are there already."""
    base = Path(plan.run.spec.launch.folder) / plan.run.name
    number, folder = 1, base
    while folder.exists():
        number += 1
        folder = base.with_name(f"{base.name}-{number}")
    return folder
