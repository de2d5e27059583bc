"""Saving the best plan as a run file, without ever overwriting a file somebody may have edited."""

from pathlib import Path

from orchestrator import api
from orchestrator.cli.files import write_text
from orchestrator.cli.plan_question import Flags, command_of
from orchestrator.cli.screen import talk
from orchestrator.errors import StorageError
from orchestrator.planner.run_file import run_file_of
from orchestrator.records.plan import Plan
from orchestrator.specs.choices import Precision

DEFAULT_CLUSTER = "dgx-h100"
DEFAULT_PRECISION = Precision.BF16


def save_best(plan: Plan, *, out: Path | None, flags: Flags) -> None:
    """Write the plan's run file to `out`, or to a name of its own in the working folder.

    A file that was asked for by name is replaced; one of our own choice is left alone when it
    is there already and differs.

    Raises:
        StorageError: `out` was asked for and cannot be written.
    """
    path = out or _own_choice(plan)
    text = run_file_of(plan, written_by=command_of(flags, out=path.name))
    if out is None and _is_another(path, text):
        talk().print(f"{path} exists and differs: kept; choose another with --out FILE")
        return
    try:
        write_text(path, text)
    except StorageError as error:
        if out is not None:
            raise
        talk().print(f"the best layout was not saved: {error}")
        return
    engine = plan.run.spec.engine.name
    capabilities = api.engine_named(engine).capabilities()
    refused = api.problems(plan.run, layout=plan.layout, capabilities=capabilities)
    then = "" if refused else f"; next: llmorch validate {path}"
    talk().print(f"saved the best as {path}{then}")
    for problem in refused:
        talk().print(f"note: the {engine} engine does not run it: {problem.message}")


def _own_choice(plan: Plan) -> Path:
    """Return a name that tells plans of different questions apart."""
    run = plan.run
    parts = [run.model.name, f"{plan.layout.world_size}-gpus"]
    if run.machine.cluster.name != DEFAULT_CLUSTER:
        parts.append(run.machine.cluster.name)
    if plan.precision is not DEFAULT_PRECISION:
        parts.append(plan.precision.value)
    return Path(f"{'.'.join(parts)}.yaml")


def _is_another(path: Path, text: str) -> bool:
    """Return whether something else than our text stands at a path, readable or not."""
    try:
        return path.read_text(encoding="utf-8") != text
    except FileNotFoundError:
        return False
    except (OSError, UnicodeDecodeError):
        return True
