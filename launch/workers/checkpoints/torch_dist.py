"""Checkpoints of Megatron's dist_checkpointing, ours among them: `.metadata`, `common.pt`, shards.

`.metadata` says which bytes of which file are whose; a file that ends before is torn.
"""

import json
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

from launch.workers.checkpoints.megatron_args import said_by
from launch.workers.checkpoints.pickles import (
    Inert,
    product_of,
    read_archive,
    read_pickle,
    shape_of,
)
from launch.workers.checkpoints.places import Listing
from orchestrator.records.checkpoint import CheckpointFormat, SavedCheckpoint

METADATA = ".metadata"
COMMON = "common.pt"
_NO_WEIGHTS = ("optimizer", "chained_", "rng_state", "random", "rerun", "_extra_state", "opt_")
_OWN_SIZES = (
    *("num_layers", "hidden_size", "ffn_hidden_size", "num_attention_heads"),
    *("num_query_groups", "vocab_size", "padded_vocab_size"),
)


def is_one(found: Listing) -> bool:
    """Return whether a folder is such a checkpoint, whole or not."""
    has_shards = any(name.endswith(".distcp") for name in found.sizes)
    return METADATA in found.sizes or has_shards


def read(found: Listing) -> SavedCheckpoint:
    """Return what the checkpoint says of itself.

    Raises:
        ForbiddenName: a pickle names something that is not on the lists.
    """
    metadata, flaws = _metadata(found)
    common = read_archive(found.folder / COMMON)
    flaws += [*common.flaws, *_manifest(found)]
    tree = common.tree if isinstance(common.tree, dict) else {}
    own = "arguments" in tree and "position" in tree
    said = _ours(tree) if own else _megatrons(tree)
    return SavedCheckpoint(
        format=CheckpointFormat.LLMORCH if own else CheckpointFormat.TORCH_DIST,
        folder=str(found.folder),
        size_bytes=found.size_bytes,
        num_files=len(found.sizes),
        flaws=tuple(flaws),
        parameters=None if metadata is None else _weights(metadata),
        **said,
    )


def _metadata(found: Listing) -> tuple[Inert | None, list[str]]:
    if METADATA not in found.sizes:
        return None, [f"{METADATA} is missing: it is written last, so the save did not end"]
    with (found.folder / METADATA).open("rb") as file:
        metadata = read_pickle(file)
    if not isinstance(metadata, Inert):
        return None, [f"{METADATA} is cut off"]
    return metadata, list(_short_files(metadata, found))


def _short_files(metadata: Inert, found: Listing) -> Iterator[str]:
    ends: dict[str, int] = {}
    for info in (metadata.field("storage_data") or {}).values():
        name = info.field("relative_path")
        ends[name] = max(ends.get(name, 0), info.field("offset") + info.field("length"))
    for name, end in sorted(ends.items()):
        size = found.sizes.get(name)
        if size is None:
            yield f"{name} is missing"
        elif size < end:
            yield f"{name} ends at {size:,} of {end:,} bytes"


def _manifest(found: Listing) -> Iterator[str]:
    """Yield what differs from the list that our controller wrote when it committed."""
    if "manifest.json" not in found.sizes:
        return
    try:
        listed = json.loads((found.folder / "manifest.json").read_text(encoding="utf-8"))
        files = {name: entry["size_bytes"] for name, entry in listed["files"].items()}
    except (ValueError, KeyError, TypeError):
        yield "manifest.json cannot be read"
        return
    for name, size in sorted(files.items()):
        if found.sizes.get(name) != size:
            yield f"{name} has {found.sizes.get(name, 0):,} bytes, and {size:,} were committed"


def _weights(metadata: Inert) -> int:
    total = 0
    for name, entry in (metadata.field("state_dict_metadata") or {}).items():
        size = entry.field("size")
        if size is None or name.startswith(_NO_WEIGHTS) or "_extra_state" in name:
            continue
        total += product_of(shape_of(size))
    return total


def _ours(tree: dict[str, Any]) -> dict[str, Any]:
    arguments = json.loads(tree["arguments"])
    parallel, training = arguments["parallel"], arguments["training"]
    degrees = {name: parallel[name] for name in ("tp", "pp", "cp", "ep", "vpp")}
    model_parallel = degrees["tp"] * degrees["pp"] * degrees["cp"]
    return {
        "step": tree["position"]["step"],
        "samples": tree["position"]["consumed_samples"],
        "sequence_length": training["sequence_length"],
        "degrees": {**degrees, "dp": tree["world_size"] // model_parallel},
        "world_size": tree["world_size"],
        "zero_stage": parallel["zero_stage"],
        "precision": training["precision"],
        "written_by": "llmorch's megatron-core worker",
        "reshards_optimizer": True,
        "model": {name: arguments["model"][name] for name in _OWN_SIZES},
    }


def _megatrons(tree: dict[str, Any]) -> dict[str, Any]:
    given = tree.get("args")
    said = said_by(given if isinstance(given, Namespace) else Namespace())
    step = tree.get("iteration")
    return {**said, "step": step if isinstance(step, int) else None}
