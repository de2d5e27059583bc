"""Checkpoints on storage: from staged to committed, from committed to gone.

Commit is: look whether everything is there, make every file durable, rename the folder, make the
rename durable, then point `latest` at it. A crash between any two of these leaves either the old
latest checkpoint or the new one, and never a folder named `step-N` that is not whole.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from launch.run_directory import RunDirectory, sync_folder, write_whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Flaw:
    """Why a staged checkpoint is not whole."""

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

    def commit(self, generation: int, step: int) -> Flaw | None:
        """Make a staged checkpoint the latest, or say what is wrong with it."""
        staged = self.directory.staged_checkpoint(generation, step)
        committed = self.directory.checkpoint(step)
        if (
            committed.is_dir() and not staged.is_dir()
        ):  # by a controller that died before it said so
            write_whole(self.directory.latest, committed.name + "\n")
            return None
        flaw = self._flaw(staged)
        if flaw is not None:
            return flaw
        _sync_tree(staged)
        staged.rename(committed)
        sync_folder(self.directory.checkpoints)
        write_whole(self.directory.latest, committed.name + "\n")
        return None

    def delete(self, step: int) -> None:
        """Delete a committed checkpoint; first its name goes, then its bytes."""
        gone = self.directory.trash / f"step-{step}"
        committed = self.directory.checkpoint(step)
        if committed.is_dir():  # else a controller deleted it that died before it said so
            committed.rename(gone)
        if gone.is_dir():
            shutil.rmtree(gone)

    def _flaw(self, staged: Path) -> Flaw | None:
        if not staged.is_dir():
            return Flaw(reason=f"{staged} is not there")
        for name in self.required:
            file = staged / name
            if not file.is_file():
                return Flaw(reason=f"{name} is missing")
            if file.stat().st_size == 0:
                return Flaw(reason=f"{name} is empty")
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
