"""Saving the best plan as a run file, without ever overwriting a file somebody may have edited."""

from pathlib import Path

from orchestrator import api
from orchestrator.cli.files import write_text
from orchestrator.cli.screen import talk
from orchestrator.errors import StorageError
from orchestrator.records.plan import Plan


def save_best(plan: Plan, *, out: Path | None) -> None:
    """Write the plan's run file to `out`, or to a name of its own in the working folder.

    A file that was asked for by name is replaced; one of our own choice is left alone when it
    is there already and differs.

    Raises:
        StorageError: `out` was asked for and cannot be written.
    """
    text = api.run_file_of(plan)
    path = out or Path(f"{plan.run.model.name}.{plan.layout.world_size}-gpus.yaml")
    if out is None and path.exists() and path.read_text(encoding="utf-8") != text:
        talk().print(f"{path} exists and differs: kept; choose another with --out FILE")
        return
    try:
        write_text(path, text)
    except StorageError as error:
        if out is not None:
            raise
        talk().print(f"the best layout was not saved: {error}")
        return
    talk().print(f"saved the best as {path}; next: llmorch validate {path}")
    engine = plan.run.spec.engine.name
    capabilities = api.engine_named(engine).capabilities()
    for problem in api.problems(plan.run, layout=plan.layout, capabilities=capabilities):
        talk().print(f"note: the {engine} engine does not run it: {problem.message}")
