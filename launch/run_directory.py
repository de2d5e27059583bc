"""The run directory: every file name of docs/protocols.md, section 4, and how files get there.

Files that others read while a run goes on are replaced whole: written beside, synced, renamed. A
name that is there is therefore complete, also after a power cut.
"""

import json
import os
import secrets
import zlib
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path

from orchestrator.errors import StorageError

_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Reign:
    """Who controls a run: the content of `controller.json`."""

    epoch: int
    host: str
    pid: int
    address: str
    port: int


_REIGN_FIELDS = tuple(field.name for field in fields(Reign))


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """One run's directory; `path` is absolute."""

    path: Path

    @classmethod
    def create(cls, path: Path) -> "RunDirectory":
        """Make a new run's directory; one that holds something already is refused."""
        directory = cls(path.absolute())
        try:
            path.mkdir(parents=True, exist_ok=True)
            if any(path.iterdir()):
                raise StorageError(
                    path=str(path),
                    problem="a run is here already",
                    instead="give another folder; without --run-dir they are numbered",
                )
            for folder in (directory.bundle, directory.checkpoints, directory.logs):
                folder.mkdir()
        except OSError as error:
            raise _storage_error(path, error) from None
        return directory

    @classmethod
    def reopen(cls, path: Path) -> "RunDirectory":
        """Open the directory of a run that was begun before."""
        directory = cls(path.absolute())
        if not directory.journal.is_file():
            raise StorageError(path=str(path), problem="there is no run here")
        return directory

    @property
    def local_name(self) -> str:
        """What the run is called in folders of hosts' own, where runs of many folders meet."""
        return f"{self.path.name}-{zlib.crc32(os.fsencode(self.path)):08x}"

    @property
    def run_file(self) -> Path:
        """The resolved run file."""
        return self.path / "run.yaml"

    @property
    def plan(self) -> Path:
        """The plan with its parts."""
        return self.path / "plan.json"

    @property
    def bundle(self) -> Path:
        """What is sent to hosts."""
        return self.path / "bundle"

    @property
    def agent_archive(self) -> Path:
        """The agent as one file."""
        return self.bundle / "agent.pyz"

    @property
    def journal(self) -> Path:
        """Events and instructions."""
        return self.path / "journal.jsonl"

    @property
    def controller(self) -> Path:
        """Who controls."""
        return self.path / "controller.json"

    @property
    def secret(self) -> Path:
        """The channel's secret, mode 0600."""
        return self.path / "secret"

    @property
    def metrics(self) -> Path:
        """One line a step."""
        return self.path / "metrics.jsonl"

    @property
    def logs(self) -> Path:
        """What processes print."""
        return self.path / "logs"

    @property
    def controller_log(self) -> Path:
        """What the controller refused: strangers, lines it does not understand."""
        return self.logs / "controller.log"

    @property
    def checkpoints(self) -> Path:
        """Committed checkpoints, and the staging folder."""
        return self.path / "checkpoints"

    @property
    def latest(self) -> Path:
        """The name of the newest committed checkpoint's folder."""
        return self.checkpoints / "latest"

    @property
    def staging(self) -> Path:
        """What generations stage."""
        return self.checkpoints / "staging"

    @property
    def trash(self) -> Path:
        """Checkpoints on their way out; a half-deleted one never has a checkpoint's name."""
        return self.checkpoints / "trash"

    @property
    def summary(self) -> Path:
        """Planned against measured, and the accounts."""
        return self.path / "summary.json"

    def prepare_log(self, number: int) -> Path:
        """What a preparation prints."""
        return self.logs / f"prepare-{number}.log"

    def agent_log(self, agent_id: int) -> Path:
        """What an agent prints."""
        return self.logs / f"agent-{agent_id}.log"

    def generation_logs(self, generation: int) -> Path:
        """The folder of a generation's rank logs."""
        return self.logs / f"generation-{generation}"

    def rank_log(self, generation: int, rank: int) -> Path:
        """What a rank prints."""
        return self.generation_logs(generation) / f"rank-{rank}.log"

    def checkpoint(self, step: int) -> Path:
        """A committed checkpoint."""
        return self.checkpoints / f"step-{step}"

    def torn_checkpoint(self, step: int) -> Path:
        """A committed checkpoint that was found torn; nobody resumes from it."""
        return self.checkpoints / f"torn-step-{step}"

    def generation_staging(self, generation: int) -> Path:
        """Where a generation stages."""
        return self.staging / f"generation-{generation}"

    def staged_checkpoint(self, generation: int, step: int) -> Path:
        """A checkpoint that a generation stages."""
        return self.generation_staging(generation) / f"step-{step}"

    def committed_steps(self) -> tuple[int, ...]:
        """The steps of the committed checkpoints, ascending."""
        steps = (entry.name.removeprefix("step-") for entry in self.checkpoints.glob("step-*"))
        return tuple(sorted(int(step) for step in steps if step.isdecimal()))

    def take_epoch(self) -> int:
        """Begin a reign: the first number nobody has taken, taken by an exclusive creation."""
        epoch = 1
        while True:
            try:
                descriptor = os.open(self._epoch(epoch), os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            except FileExistsError:
                epoch += 1
            except OSError as error:
                raise _storage_error(self._epoch(epoch), error) from None
            else:
                os.close(descriptor)
                return epoch

    def is_superseded(self, epoch: int) -> bool:
        """Whether a later controller has taken the run."""
        return self._epoch(epoch + 1).exists()

    def announce(self, reign: Reign) -> None:
        """Write down who controls."""
        content = {
            "epoch": reign.epoch,
            "host": reign.host,
            "pid": reign.pid,
            "address": reign.address,
            "port": reign.port,
        }
        write_whole(self.controller, json.dumps(content) + "\n")

    def reign(self) -> Reign | None:
        """Who controls, or did last; None before the first controller.

        Raises:
            StorageError: the file cannot be read or understood.
        """
        try:
            content = json.loads(self.controller.read_text())
            return Reign(**{name: content[name] for name in _REIGN_FIELDS})
        except FileNotFoundError:
            return None
        except (KeyError, TypeError, ValueError):
            problem = "not what a controller writes"
            raise StorageError(path=str(self.controller), problem=problem) from None
        except OSError as error:
            raise _storage_error(self.controller, error) from None

    def read_secret(self) -> str | None:
        """The channel's secret; None when the run has none.

        Raises:
            StorageError: it is there and not ours to read.
        """
        try:
            return self.secret.read_text().strip()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _storage_error(self.secret, error) from None

    def make_secret(self) -> str:
        """Make the channel's secret for this reign; only its owner may read the file."""
        self.forget_secret()
        secret = secrets.token_hex(_SECRET_BYTES)
        try:
            descriptor = os.open(self.secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secret + "\n")
        except OSError as error:
            raise _storage_error(self.secret, error) from None
        return secret

    def forget_secret(self) -> None:
        """Remove the secret; nothing happens when there is none."""
        with suppress(FileNotFoundError):
            self.secret.unlink()

    def _epoch(self, number: int) -> Path:
        return self.path / f"epoch-{number}"


def write_whole(path: Path, text: str) -> None:
    """Put a file in place complete and durable, or not at all."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise _storage_error(path, error) from None


def sync_folder(path: Path) -> None:
    """Make a folder's entries durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _storage_error(path: Path, error: OSError) -> StorageError:
    return StorageError(path=str(path), problem=error.strerror or str(error))
