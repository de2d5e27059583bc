"""Checkpoints in Megatron-LM's own format (`--ckpt-format torch`): a file for each tp, pp rank."""

import re
from argparse import Namespace
from itertools import product
from typing import Any

from launch.workers.checkpoints.megatron_args import said_by
from launch.workers.checkpoints.pickles import read_archive, tensors_of
from launch.workers.checkpoints.places import Listing
from orchestrator.records.checkpoint import CheckpointFormat, SavedCheckpoint

FILE = "model_optim_rng.pt"
OPTIMIZER_FILE = "distrib_optim.pt"
_FOLDER = re.compile(r"^mp_rank_\d{2}(_\d{3}){0,2}$")


def is_one(found: Listing) -> bool:
    """Return whether a folder is such a checkpoint, whole or not."""
    return any(_FOLDER.match(name.split("/")[0]) and "/" in name for name in found.sizes)


def read(found: Listing) -> SavedCheckpoint:
    """Return what the checkpoint says of itself.

    Raises:
        ForbiddenName: a pickle names something that is not on the lists.
    """
    folders = sorted(
        {name.split("/")[0] for name in found.sizes if _FOLDER.match(name.split("/")[0])}
    )
    archives = {name: read_archive(found.folder / name / FILE) for name in folders}
    flaws = [f"{name}/{flaw}" for name, one in archives.items() for flaw in one.flaws]
    trees = [one.tree for one in archives.values() if isinstance(one.tree, dict)]
    first: dict[str, Any] = trees[0] if trees else {}
    args = first.get("args")
    said = said_by(args if isinstance(args, Namespace) else Namespace())
    flaws += [f"{name}/{FILE} is missing" for name in _expected(said["degrees"]) - {*folders}]
    flaws += _optimizers(found, folders, is_sharded=bool(said["zero_stage"]))
    step = first.get("iteration")
    return SavedCheckpoint(
        format=CheckpointFormat.LEGACY,
        folder=str(found.folder),
        size_bytes=found.size_bytes,
        num_files=len(found.sizes),
        flaws=tuple(sorted(flaws)),
        step=step if isinstance(step, int) else None,
        parameters=sum(_weights(tree) for tree in trees) if trees else None,
        **{**said, "reshards_optimizer": False},
    )


def _expected(degrees: dict[str, int]) -> set[str]:
    """Return the folders of all ranks; a pipeline and experts add numbers of their own."""
    tp, pp, ep = (degrees.get(name, 1) for name in ("tp", "pp", "ep"))
    names = set()
    for t, p, e in product(range(tp), range(pp), range(ep)):
        name = f"mp_rank_{t:02d}" + (f"_{p:03d}" if pp > 1 else "")
        names.add(name + (f"_{e:03d}" if ep > 1 else ""))
    return names


def _optimizers(found: Listing, folders: list[str], *, is_sharded: bool) -> list[str]:
    """Return which optimizer files are missing or torn, where any is there or is needed."""
    wanted = [f"{name}/{OPTIMIZER_FILE}" for name in folders]
    if not is_sharded and not any(name in found.sizes for name in wanted):
        return []
    return [
        f"{name.rsplit('/', 1)[0]}/{flaw}"
        for name in wanted
        for flaw in read_archive(found.folder / name).flaws
    ]


def _weights(tree: dict[str, Any]) -> int:
    chunks = [value for key, value in tree.items() if key.startswith("model")]
    return sum(tensor.elements for tensor in tensors_of(chunks))
