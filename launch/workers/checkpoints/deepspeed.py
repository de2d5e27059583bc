"""Checkpoints of DeepSpeed, as it saves them and as `ds_to_universal` makes them."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from launch.workers.checkpoints.pickles import (
    Archive,
    Inert,
    product_of,
    read_archive,
    shape_of,
    tensors_of,
)
from launch.workers.checkpoints.places import Listing
from orchestrator.records.checkpoint import CheckpointFormat, SavedCheckpoint

_MODEL = re.compile(r"^(?:zero_pp_rank_(\d+)_)?mp_rank_(\d+)_model_states\.pt$")
_LAYER = re.compile(r"^layer_(\d+)-(?:model_\d+-)?model_states\.pt$")
_OPTIMIZER = re.compile(r"^(?:bf16_|fp16_)?zero_pp_rank_(\d+)_mp_rank_(\d+)_optim_states\.pt$")
_UNIVERSAL = "zero/"
_WEIGHTS_STAGE = 3
_STATES = ("fp32.pt", "exp_avg.pt", "exp_avg_sq.pt")


def is_one(found: Listing) -> bool:
    """Return whether a folder is such a checkpoint, whole or not."""
    return any(_MODEL.match(name) or _OPTIMIZER.match(name) for name in found.sizes)


def read(found: Listing) -> SavedCheckpoint:
    """Return what the checkpoint says of itself.

    Raises:
        ForbiddenName: a pickle names something that is not on the lists.
    """
    archives = {
        name: read_archive(found.folder / name) for name in sorted(found.sizes) if _is_state(name)
    }
    flaws = [flaw for one in archives.values() for flaw in one.flaws]
    main = _main(archives)
    given = main.get("ds_config")
    config: dict[str, Any] = given if isinstance(given, dict) else {}
    stage = _stage(config, archives)
    universal = any(name.startswith(_UNIVERSAL) for name in found.sizes)
    dp, mp = _count(main, "dp_world_size"), _count(main, "mp_world_size")
    if universal:
        flaws += _torn_parameters(found, main)
    elif dp is not None and mp is not None:
        flaws += [*_absent(archives, dp=dp, mp=mp, stage=stage), *_absent_layers(archives)]
    if not main:
        flaws.append("no file of model states can be read")
    return SavedCheckpoint(
        format=CheckpointFormat.UNIVERSAL if universal else CheckpointFormat.DEEPSPEED,
        folder=str(found.folder),
        size_bytes=found.size_bytes,
        num_files=len(found.sizes),
        flaws=tuple(dict.fromkeys(flaws)),
        step=_count(main, "global_steps"),
        samples=_count(main, "global_samples"),
        sequence_length=None,
        parameters=_parameters(main, archives),
        degrees=_degrees(archives, dp=dp, mp=mp),
        world_size=None if dp is None or mp is None else dp * mp,
        zero_stage=stage,
        precision=_precision(config),
        written_by=f"DeepSpeed {main['ds_version']}" if main.get("ds_version") else None,
        reshards_optimizer=universal,
        model={},
    )


def _is_state(name: str) -> bool:
    return any(pattern.match(name) for pattern in (_MODEL, _LAYER, _OPTIMIZER))


def _main(archives: Mapping[str, Archive]) -> dict[str, Any]:
    """Return the first model state that can be read: all say the same of the run."""
    trees = (one.tree for name, one in archives.items() if _MODEL.match(name))
    return next((tree for tree in trees if isinstance(tree, dict)), {})


def _stage(config: dict[str, Any], archives: Mapping[str, Archive]) -> int | None:
    block = config.get("zero_optimization")
    if isinstance(block, dict) and isinstance(block.get("stage"), int):
        return int(block["stage"])
    for name, one in archives.items():
        if _OPTIMIZER.match(name) and isinstance(one.tree, dict):
            stage = one.tree.get("optimizer_state_dict", {}).get("zero_stage")
            number = stage.given[0] if isinstance(stage, Inert) and stage.given else stage
            return number if isinstance(number, int) else None
    return 0 if config else None


def _absent(
    archives: Mapping[str, Archive], *, dp: int, mp: int, stage: int | None
) -> Iterator[str]:
    """Yield each file that ranks of so many must have written, and that is not there."""
    optimizers = {match.groups() for name in archives if (match := _OPTIMIZER.match(name))}
    models = {match.groups() for name in archives if (match := _MODEL.match(name))}
    for m in range(mp):
        for d in range(dp):
            if stage and (str(d), f"{m:02d}") not in optimizers:
                yield f"zero_pp_rank_{d}_mp_rank_{m:02d}_optim_states.pt is missing"
            if stage == _WEIGHTS_STAGE and (str(d), f"{m:02d}") not in models:
                yield f"zero_pp_rank_{d}_mp_rank_{m:02d}_model_states.pt is missing"
        if stage != _WEIGHTS_STAGE and (None, f"{m:02d}") not in models:
            yield f"mp_rank_{m:02d}_model_states.pt is missing"


def _absent_layers(archives: Mapping[str, Archive]) -> Iterator[str]:
    """Yield the layers that a stage's parameters are of, and that have no file."""
    there = {int(match[1]) for name in archives if (match := _LAYER.match(name))}
    if not there:
        return
    named = {
        parameter.split(".")[0]
        for name, one in archives.items()
        if _MODEL.match(name) and isinstance(one.tree, dict)
        for parameter in _named(one.tree)
    }
    for layer in sorted(int(word) for word in named if word.isdigit()):
        if layer not in there:
            yield f"layer_{layer:02d}-model_states.pt is missing"


def _torn_parameters(found: Listing, main: dict[str, Any]) -> Iterator[str]:
    """Yield what a universal checkpoint lacks: each parameter has weights and two moments."""
    folders = {
        name.rsplit("/", 1)[0]
        for name in found.sizes
        if name.startswith(_UNIVERSAL) and "/" in name[5:]
    }
    for folder in sorted(folders | {f"{_UNIVERSAL}{name}" for name in _named(main)}):
        for state in _STATES:
            for flaw in read_archive(found.folder / folder / state).flaws:
                yield f"{folder}/{flaw}"


def _named(main: dict[str, Any]) -> Iterator[str]:
    for group in main.get("param_shapes") or []:
        if isinstance(group, dict):
            yield from group


def _parameters(main: dict[str, Any], archives: Mapping[str, Archive]) -> int | None:
    """Return the elements that the shapes of all parameters, or else the weights, multiply to."""
    layers = [one.tree for name, one in archives.items() if _LAYER.match(name)]
    shapes = [shape for group in main.get("param_shapes") or [] for shape in group.values()]
    if shapes and not layers:
        return sum(product_of(shape_of(shape)) for shape in shapes)
    weights = layers or [main.get("module")]
    return sum(tensor.elements for tensor in tensors_of(weights)) or None


def _degrees(archives: Mapping[str, Archive], *, dp: int | None, mp: int | None) -> dict[str, int]:
    """Return dp, and pp where layers have files of their own: what is no tp is a pipeline."""
    found = {} if dp is None else {"dp": dp}
    if mp is not None and mp > 1:
        found["pp" if any(_LAYER.match(name) for name in archives) else "tp"] = mp
    return found


def _precision(config: dict[str, Any]) -> str | None:
    if not config:
        return None
    on = [
        name
        for name in ("bf16", "fp16")
        if isinstance(config.get(name), dict) and config[name].get("enabled")
    ]
    return on[0] if on else "fp32"


def _count(main: dict[str, Any], name: str) -> int | None:
    value = main.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
