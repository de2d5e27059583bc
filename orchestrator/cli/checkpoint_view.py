"""What `checkpoint inspect` shows; a process of its own reads the checkpoint."""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from launch.transport.commands import ask
from launch.workers.closed_json import MalformedError, read_object
from orchestrator.cli.examination import examined
from orchestrator.engines.loading import Loading, loading_of
from orchestrator.errors import ExitCode, StorageError
from orchestrator.records.checkpoint import SavedCheckpoint
from orchestrator.units import text_of_bytes

TIMEOUT_S = 600.0
_WORKER = "launch.workers.checkpoints.main"
_LABEL = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """A checkpoint, and whether the run file that was given can load it."""

    saved: SavedCheckpoint
    run_file: Path | None = None
    loading: Loading | None = None

    @property
    def exit_code(self) -> ExitCode:
        """Return 8 for a checkpoint that is not whole, 5 for one that the run cannot load."""
        if not self.saved.is_complete:
            return ExitCode.STORAGE
        return ExitCode.OK if self.loading is None or self.loading.can else ExitCode.ENGINE_REFUSES


def looked(path: Path, run_file: Path | None) -> Looked:
    """Return what a checkpoint says of itself, and of a run file.

    Raises:
        StorageError: there is no checkpoint, or it names what must not be read.
        LlmorchError: the run file is not valid.
    """
    saved = read(path)
    if run_file is None:
        return Looked(saved=saved)
    found = examined(run_file)
    if found.plan is None:
        raise found.error()
    loading = loading_of(saved, found.plan.run, found.plan.layout)
    return Looked(saved=saved, run_file=run_file, loading=loading)


def read(path: Path) -> SavedCheckpoint:
    """Return what a checkpoint says of itself, read by the worker.

    Raises:
        StorageError: there is none, or it names what must not be read.
    """
    argv = [sys.executable, "-P", "-m", _WORKER, str(path.absolute())]
    answer = ask(argv, text="", timeout_s=TIMEOUT_S)
    try:
        said = json.loads(answer.out)
        if "refused" in said:
            raise StorageError(path=said["path"], problem=said["refused"])
        return read_object(SavedCheckpoint, said["checkpoint"])
    except (ValueError, KeyError, TypeError, MalformedError) as error:
        tail = answer.err.strip().splitlines()[-1:] or ["it took too long"]
        raise StorageError(path=str(path), problem=f"cannot be read: {tail[0]}") from error


def document(found: Looked) -> dict[str, Any]:
    """Return the answer of `--json`."""
    saved, loading = found.saved, found.loading
    return {
        "schema": 1,
        "checkpoint": {
            **asdict(saved),
            "format": saved.format.value,
            "flaws": list(saved.flaws),
            "complete": saved.is_complete,
            "tokens": saved.tokens,
        },
        "run": None
        if loading is None
        else {
            "file": str(found.run_file),
            "can_load": loading.can,
            "reasons": list(loading.reasons),
            "changes": list(loading.changes),
            "commands": list(loading.commands),
        },
    }


def text(found: Looked) -> str:
    """Return the answer in lines of label and value."""
    lines = [*_of_checkpoint(found.saved)]
    if found.loading is not None:
        lines += _of_loading(found.loading, found.run_file)
    return "".join(f"{label:{_LABEL}}{value}".rstrip() + "\n" for label, value in lines)


def _of_checkpoint(saved: SavedCheckpoint) -> Iterator[tuple[str, str]]:
    yield "checkpoint", saved.folder
    yield "format", saved.format.value + (f", by {saved.written_by}" if saved.written_by else "")
    yield "state", "complete" if saved.is_complete else "torn"
    yield from (("", f"- {flaw}") for flaw in saved.flaws)
    yield "size", f"{text_of_bytes(saved.size_bytes)} in {saved.num_files:,} files"
    yield "step", "not said" if saved.step is None else f"{saved.step:,}"
    yield "tokens", _tokens(saved)
    if saved.parameters is not None:
        yield "parameters", f"{saved.parameters:,}"
    degrees = " x ".join(f"{axis} {degree}" for axis, degree in saved.degrees.items())
    stage = "" if saved.zero_stage is None else f", ZeRO {saved.zero_stage}"
    world = "" if saved.world_size is None else f" ({saved.world_size:,} ranks)"
    yield "layout", f"{degrees or 'not said'}{world}{stage}"
    yield "precision", saved.precision or "not said"


def _tokens(saved: SavedCheckpoint) -> str:
    if saved.tokens is not None:
        return f"{saved.tokens:,} ({saved.samples:,} sequences of {saved.sequence_length:,})"
    if saved.samples is not None:
        return f"{saved.samples:,} sequences; their length is not said"
    return "not said"


def _of_loading(loading: Loading, run_file: Path | None) -> Iterator[tuple[str, str]]:
    verdict = "can load it" if loading.can else "cannot load it as it is"
    yield "run file", f"{run_file}: {verdict}"
    yield from (("", f"- {reason}") for reason in loading.reasons)
    yield from (("changes", change) for change in loading.changes)
    yield from (("convert", command) for command in loading.commands)
