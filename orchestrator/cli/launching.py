"""From a run file to a supervised run: the one place where deciding and acting meet."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
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
from orchestrator.errors import Interrupted, LlmorchError
from orchestrator.records.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A start that has not happened yet: the plan, and exactly what would be started."""

    plan: Plan
    launcher: Launcher
    request: LaunchRequest
    notes: tuple[str, ...]


def prepared(run_file: Path) -> Prepared:
    """Return what launching a run file would start.

    Raises:
        InvalidFile: the run file breaks its format or a rule, or does not fit in memory.
        EngineRefused, HostError: engine or launcher cannot run it.
    """
    found = examined(run_file)
    if found.plan is None:
        raise found.error()
    spec = found.plan.run.spec
    bundle = api.engine_named(spec.engine.name).render(found.plan)
    launcher = find_launcher(spec.launch.via.value)
    request = launcher.prepare(bundle, found.plan.run)
    return Prepared(plan=found.plan, launcher=launcher, request=request, notes=found.notes)


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
