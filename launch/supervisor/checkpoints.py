"""Checkpoints on storage: from staged to committed, from committed to gone or torn.

Commit is: look whether everything is there, make every file durable, rename the folder, make the
rename durable, then point `latest` at it. A crash between any two of these leaves either the old
latest checkpoint or the new one, and never a folder named `step-N` that is not whole.
"""

import os
import shutil
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from launch.rank_lines import StagedFile
from launch.run_directory import RunDirectory, sync_folder, write_whole
from launch.supervisor.manifests import MANIFEST, Files, manifest_text, read_manifest

_READ_UP_TO_BYTES = 1 << 20  # metadata; shards are told by their sizes


@dataclass(frozen=True, slots=True, kw_only=True)
class Flaw:
    """Why a checkpoint is not whole."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointStore:
    """The checkpoints of a run; all but `prepare` is slow and belongs in the worker thread.

    An OSError or a StorageError says that the storage does not work.
    """

    directory: RunDirectory
    required: tuple[str, ...]

    def prepare(self, generation: int) -> None:
        """Make the generation's folders, and put aside what older generations staged in vain."""
        self.directory.trash.mkdir(exist_ok=True)
        self.directory.staging.mkdir(exist_ok=True)
        for folder in sorted(self.directory.staging.iterdir()):
            folder.rename(self.directory.trash / folder.name)
        self.directory.generation_staging(generation).mkdir()
        self.directory.generation_logs(generation).mkdir()

    def empty_trash(self) -> None:
        """Free the space of what was put aside."""
        for folder in sorted(self.directory.trash.iterdir()):
            shutil.rmtree(folder)

    def commit(self, generation: int, step: int, files: Files) -> Flaw | None:
        """Make a staged checkpoint the latest, or say what is wrong with it.

        `files` are those that ranks say they wrote; they are listed in the checkpoint's manifest.
        """
        staged = self.directory.staged_checkpoint(generation, step)
        committed = self.directory.checkpoint(step)
        if (
            committed.is_dir() and not staged.is_dir()
        ):  # by a controller that died before it said so
            write_whole(self.directory.latest, committed.name + "\n")
            return None
        flaw = self._flaw(staged, files.values())
        if flaw is not None:
            return flaw
        (staged / MANIFEST).write_text(manifest_text(step, files))
        _sync_tree(staged)
        staged.rename(committed)
        sync_folder(self.directory.checkpoints)
        write_whole(self.directory.latest, committed.name + "\n")
        return None

    def flaw_of(self, step: int) -> Flaw | None:
        """What is wrong with a committed checkpoint: a file is gone, cut off, or changed."""
        committed = self.directory.checkpoint(step)
        if not committed.is_dir():
            return Flaw(reason=f"{committed} is not there")
        try:
            files = read_manifest((committed / MANIFEST).read_text())
        except FileNotFoundError:
            return Flaw(reason=f"{MANIFEST} is missing")
        except ValueError:
            return Flaw(reason=f"{MANIFEST} is not what was written")
        return self._flaw(committed, files)

    def put_aside(self, step: int, *, latest: int | None) -> None:
        """Take a torn checkpoint's name away, after `latest` names the newest one that is whole."""
        if latest is None:
            self.directory.latest.unlink(missing_ok=True)
        else:
            write_whole(self.directory.latest, self.directory.checkpoint(latest).name + "\n")
        torn = self.directory.checkpoint(step)
        aside = self.directory.torn_checkpoint(step)
        if not torn.is_dir():
            return
        if aside.is_dir():  # one that was torn before, of the same step
            shutil.rmtree(aside)
        torn.rename(aside)
        sync_folder(self.directory.checkpoints)

    def delete(self, step: int) -> None:
        """Delete a committed checkpoint; first its name goes, then its bytes."""
        gone = self.directory.trash / f"step-{step}"
        committed = self.directory.checkpoint(step)
        if committed.is_dir():  # else a controller deleted it that died before it said so
            committed.rename(gone)
        if gone.is_dir():
            shutil.rmtree(gone)

    def _flaw(self, folder: Path, stated: Iterable[StagedFile]) -> Flaw | None:
        if not folder.is_dir():
            return Flaw(reason=f"{folder} is not there")
        for name in self.required:
            file = folder / name
            if not file.is_file():
                return Flaw(reason=f"{name} is missing")
            if file.stat().st_size == 0:
                return Flaw(reason=f"{name} is empty")
        return next(filter(None, (_flaw_of_file(folder, file) for file in stated)), None)


def _flaw_of_file(folder: Path, stated: StagedFile) -> Flaw | None:
    """What of a file is not as its rank wrote it; only short ones are read."""
    file = folder / stated.name
    if not file.is_file():
        return Flaw(reason=f"{stated.name} is missing")
    size_bytes = file.stat().st_size
    if size_bytes != stated.size_bytes:
        return Flaw(reason=f"{stated.name} has {size_bytes} of {stated.size_bytes} bytes")
    is_short = size_bytes <= _READ_UP_TO_BYTES
    if is_short and zlib.crc32(file.read_bytes()) != stated.crc32:
        return Flaw(reason=f"{stated.name} has other bytes than were written")
    return None


def _sync_tree(folder: Path) -> None:
    """Make every file and entry below durable; what ranks wrote may still be in memory."""
    for parent, _, files in os.walk(folder):
        for name in files:
            descriptor = os.open(Path(parent) / name, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_folder(Path(parent))
