"""Entry point of the checkpoint reader: one path in, one JSON object out.

It runs as a process of its own with a limit on memory: a checkpoint is a stranger's file.
"""

import json
import resource
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Final

from launch.workers.checkpoints import deepspeed, legacy, torch_dist
from launch.workers.checkpoints.pickles import ForbiddenName
from launch.workers.checkpoints.places import Listing, checkpoint_folder, listing
from orchestrator.errors import ExitCode, StorageError
from orchestrator.records.checkpoint import SavedCheckpoint

MEMORY_BYTES: Final = 8 << 30

_READERS: Final[
    tuple[tuple[Callable[[Listing], bool], Callable[[Listing], SavedCheckpoint]], ...]
] = (
    (torch_dist.is_one, torch_dist.read),
    (legacy.is_one, legacy.read),
    (deepspeed.is_one, deepspeed.read),
)


def main() -> None:
    """Read the checkpoint that the command line names."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    sys.stdout.write(json.dumps(answer(Path(sys.argv[1]))) + "\n")
    sys.exit(ExitCode.OK)


def answer(path: Path) -> dict[str, object]:
    """Return the checkpoint, or under `refused` why it was not read."""
    try:
        return {"checkpoint": asdict(read(path))}
    except StorageError as error:
        return {"refused": error.problem, "path": error.path}
    except ForbiddenName as error:
        reason = f"a pickle in it names {error}, which is not on the list of what may be read"
        return {"refused": reason, "path": str(path)}
    except OSError as error:
        return {"refused": error.strerror or str(error), "path": str(error.filename or path)}


def read(path: Path) -> SavedCheckpoint:
    """Return what a checkpoint says of itself.

    Raises:
        StorageError: there is none of a known format.
        ForbiddenName: a pickle in it names something that is not on the lists.
    """
    found = listing(checkpoint_folder(path))
    for is_one, reader in _READERS:
        if is_one(found):
            return reader(found)
    raise StorageError(
        path=str(found.folder),
        problem="is no checkpoint of a known format: torch_dist, Megatron's legacy, DeepSpeed's or "
        "a universal one",
    )


if __name__ == "__main__":
    main()
