"""The folder that `generate` writes: what `launch` would give an engine, and why."""

import json
from dataclasses import dataclass
from pathlib import Path

from orchestrator import api
from orchestrator.cli.checkout import checkout_note
from orchestrator.cli.examination import examined
from orchestrator.cli.files import reason_of, write_text
from orchestrator.cli.generated_deepspeed import deepspeed_files, hosts_of
from orchestrator.cli.generated_readme import readme_text
from orchestrator.cli.generated_script import arguments_text, environment_text, script_text
from orchestrator.cli.plan_json import plan_document
from orchestrator.errors import StorageError, UsageError
from orchestrator.records.bundle import BundleFile, EngineBundle
from orchestrator.records.engine import EngineCapabilities, EngineFamily
from orchestrator.records.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedFolder:
    """The files of a folder, none of them written yet, and what its reader should know."""

    files: tuple[BundleFile, ...]
    notes: tuple[str, ...]


def folder_of(run_file: Path, *, hostfile: Path | None = None) -> GeneratedFolder:
    """Return what `generate` writes for a run file.

    Raises:
        InvalidFile: the run file breaks its format or a rule, or does not fit in memory; the
            hostfile is missing or wrong.
        UsageError: a hostfile is given, and the engine has none.
        EngineRefused: the engine cannot run it, or the checkout is of another release.
    """
    found = examined(run_file)
    if found.plan is None:
        raise found.error()
    engine = api.engine_named(found.plan.run.spec.engine.name)
    bundle = engine.render(found.plan)
    own = _starts(found.plan, engine.capabilities(), hostfile=hostfile)
    note = checkout_note(found.plan.run.spec.engine, engine=bundle.engine)
    return GeneratedFolder(
        files=(*_files(found.plan, bundle), *own),
        notes=(
            *found.notes,
            *((note,) if note else ()),
            *(f"{one.key}: not part of this command ({one.why})" for one in bundle.unsaid),
        ),
    )


def _starts(
    plan: Plan, capabilities: EngineCapabilities, *, hostfile: Path | None
) -> tuple[BundleFile, ...]:
    """Return the files of an engine that has a launcher of its own."""
    if capabilities.family is not EngineFamily.DEEPSPEED:
        if hostfile is not None:
            raise UsageError(
                problem=f"--hostfile is for the launcher of deepspeed, not {capabilities.name}",
                instead="leave it out; run.sh is told hosts by MASTER_ADDR and NODE_RANK",
            )
        return ()
    named = plan.run.spec.launch.hostfile
    path = hostfile or (None if named is None else Path(named))
    return deepspeed_files(plan, hosts_of(plan, path))


def written(folder: GeneratedFolder, *, to: Path, over: bool) -> list[str]:
    """Write the files of a folder, each whole or not at all, and return their paths in it.

    Raises:
        UsageError: a file is there with another text, and `over` is not given.
        StorageError: the disk is full, there is no permission.
    """
    if not over:
        _refuse_to_lose(folder, to)
    for file in folder.files:
        path = to / file.path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(path=str(path.parent), problem=reason_of(error)) from error
        write_text(path, file.text)
        if path.suffix == ".sh" and file.text.startswith("#!"):
            path.chmod(0o755)
    return [file.path for file in folder.files]


def _refuse_to_lose(folder: GeneratedFolder, to: Path) -> None:
    changed = [
        file.path
        for file in folder.files
        if (to / file.path).exists() and not _is_same(to / file.path, file.text)
    ]
    if changed:
        raise UsageError(
            problem=f"{to} holds {', '.join(changed)} with another text",
            instead="give another folder, or --force to write over them",
        )


def _is_same(path: Path, text: str) -> bool:
    try:
        return path.read_text(encoding="utf-8") == text
    except (OSError, UnicodeDecodeError):
        return False


def _files(plan: Plan, bundle: EngineBundle) -> tuple[BundleFile, ...]:
    return (
        BundleFile(path="README.md", text=readme_text(plan, bundle)),
        BundleFile(path="run.sh", text=script_text(plan, bundle)),
        BundleFile(path="arguments.sh", text=arguments_text(bundle)),
        BundleFile(path="environment.sh", text=environment_text(bundle)),
        *bundle.files,
        BundleFile(path="run.yaml", text=api.run_file_of(plan)),
        BundleFile(path="plan.json", text=json.dumps(plan_document(plan), indent=2) + "\n"),
    )
