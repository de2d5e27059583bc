"""Whether a run can load a checkpoint: why not, what changes, and what converts it.

What is said was read from the engines or shown: the tests load DeepSpeed's, and our worker's own
suite loads ours. Of Megatron-LM's converters it is the command that is given, not a run of it.
"""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import PurePath

from orchestrator.records.checkpoint import CheckpointFormat, SavedCheckpoint
from orchestrator.records.layout import Layout
from orchestrator.records.run import ResolvedRun, padded_vocab_size

_DEGREES = ("tp", "pp", "cp", "dp", "ep", "vpp")
_ENGINES = {
    CheckpointFormat.LLMORCH: "megatron-core",
    CheckpointFormat.TORCH_DIST: "megatron-lm",
    CheckpointFormat.LEGACY: "megatron-lm",
    CheckpointFormat.DEEPSPEED: "deepspeed",
    CheckpointFormat.UNIVERSAL: "deepspeed",
}
UNIVERSAL_KEY = "engine.config: {checkpoint: {load_universal: true}}"
_WEIGHTS_STAGE = 3
_FSDP_STAGE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """Whether a run can load a checkpoint as it is.

    Where it cannot, `reasons` say why and `commands` make it loadable, in order; both are empty
    where nothing is known that would. `changes` are what the run does otherwise than the one that
    saved it.
    """

    reasons: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()

    @property
    def can(self) -> bool:
        """Whether it loads without a conversion."""
        return not self.reasons


def loading_of(saved: SavedCheckpoint, run: ResolvedRun, layout: Layout) -> Loading:
    """Return whether a run in a layout can load a checkpoint."""
    if not saved.is_complete:
        return Loading(reasons=("it is not whole: give an earlier one",))
    engine, wanted = run.spec.engine.name, _ENGINES[saved.format]
    if engine != wanted:
        reason = f"{engine} does not read {saved.format}, {wanted} does; nothing here converts it"
        return Loading(reasons=(reason,))
    different = tuple(_other_model(saved, run, layout))
    if different:
        return Loading(reasons=different)
    found = _BY_FORMAT[saved.format](saved, run, layout)
    return replace(found, changes=(*_changes(saved, run, layout), *found.changes))


def _other_model(saved: SavedCheckpoint, run: ResolvedRun, layout: Layout) -> Iterator[str]:
    """Yield each size of the model that is another in the run file."""
    for name, there in saved.model.items():
        if name == "padded_vocab_size":
            here = padded_vocab_size(run.model, run.training, tp=layout.tp)
            advice = "; padding follows tp: choose training.vocab_padding_multiple"
        else:
            here, advice = getattr(run.model, name), ""
        if here != there:
            yield f"{name} is {there:,} there and {here:,} in the run file{advice}"
    precision = run.training.precision.value
    if saved.format is CheckpointFormat.LLMORCH and saved.precision != precision:
        yield f"precision is {saved.precision} there and {precision} in the run file"


def _changes(saved: SavedCheckpoint, run: ResolvedRun, layout: Layout) -> Iterator[str]:
    for axis in _DEGREES:
        there, here = saved.degrees.get(axis), getattr(layout, axis)
        if there is not None and there != here:
            yield f"{axis} {there} becomes {here}"
    pairs = (
        ("ZeRO", saved.zero_stage, layout.zero_stage),
        ("precision", saved.precision, run.training.precision.value),
        ("sequence length", saved.sequence_length, run.training.sequence_length),
    )
    for name, before, after in pairs:
        if before is not None and before != after:
            yield f"{name} {before} becomes {after}"


def _same_degrees(saved: SavedCheckpoint, layout: Layout, *axes: str) -> bool:
    return all(saved.degrees.get(axis, 1) == getattr(layout, axis) for axis in axes)


def _llmorch(saved: SavedCheckpoint, _: ResolvedRun, layout: Layout) -> Loading:
    if _same_degrees(saved, layout, *_DEGREES):
        return Loading()
    return Loading(changes=("random states begin anew, as they belong to a place in a layout",))


def _torch_dist(saved: SavedCheckpoint, run: ResolvedRun, layout: Layout) -> Loading:
    target = f"{saved.folder}_fsdp_dtensor"
    if layout.zero_stage >= _FSDP_STAGE:
        tool = f"{run.spec.engine.checkout or '.'}/tools/checkpoint/checkpoint_inspector.py"
        gated = ("--swiglu",) if run.model.gated_mlp else ()
        words = ("torchrun", "--nproc_per_node=8", tool, "convert-torch-dist-to-fsdp-dtensor")
        return Loading(
            reasons=("Megatron-FSDP (ZeRO 2 and 3) reads fsdp_dtensor, not torch_dist",),
            commands=(shlex.join((*words, *gated, saved.folder, target)),),
        )
    if _same_degrees(saved, layout, "tp", "pp", "ep") and saved.zero_stage == layout.zero_stage:
        return Loading()
    if saved.reshards_optimizer and saved.zero_stage == layout.zero_stage:
        return Loading(changes=("weights and optimizer states are cut anew on loading",))
    reason = (
        "its optimizer states load only into the same tp, pp, ep and ZeRO stage: it was saved "
        "without --dist-ckpt-optim-fully-reshardable"
    )
    if saved.reshards_optimizer:
        reason = "its optimizer states load only into the same ZeRO stage"
    return Loading(
        reasons=(
            f"{reason}; weights alone load with engine.arguments: [--no-load-optim, --no-load-rng]",
        )
    )


def _legacy(saved: SavedCheckpoint, run: ResolvedRun, layout: Layout) -> Loading:
    same_cut = _same_degrees(saved, layout, "tp", "pp", "ep")
    if same_cut and _same_degrees(saved, layout, "dp") and saved.zero_stage == layout.zero_stage:
        return Loading(changes=("the next save writes torch_dist",))
    root = PurePath(saved.folder).parent
    tool = f"{run.spec.engine.checkout or '.'}/tools/checkpoint/convert.py"
    words = (
        *("python3", tool, "--model-type", "GPT", "--loader", "core", "--saver", "core"),
        *("--load-dir", str(root), "--save-dir", f"{root}-tp{layout.tp}-pp{layout.pp}"),
        *("--target-tensor-parallel-size", str(layout.tp)),
        *("--target-pipeline-parallel-size", str(layout.pp)),
    )
    return Loading(
        reasons=("Megatron's legacy format loads only into the layout that saved it",),
        changes=("the conversion keeps weights alone: optimizer states begin anew",),
        commands=(shlex.join(words),),
    )


def _deepspeed(saved: SavedCheckpoint, _: ResolvedRun, layout: Layout) -> Loading:
    if _same_degrees(saved, layout, "tp", "pp"):
        same_dp = _same_degrees(saved, layout, "dp")
        if saved.zero_stage == layout.zero_stage and (same_dp or layout.zero_stage == 0):
            return Loading()
        reasons = tuple(_other_stages(saved, layout))
        if reasons:
            return Loading(reasons=reasons)
        reason = "ZeRO's shards load only with the dp and the stage that saved them"
        universal = f"converted, the run file must say {UNIVERSAL_KEY}"
        return Loading(reasons=(reason,), changes=(universal,), commands=_to_universal(saved))
    reason = "another cut into stages: no conversion of one PipelineModule into another is shown"
    return Loading(reasons=(reason,))


def _universal(saved: SavedCheckpoint, run: ResolvedRun, layout: Layout) -> Loading:
    reasons = list(_other_stages(saved, layout))
    if not _same_degrees(saved, layout, "tp", "pp"):
        reasons.append("another cut into stages is not shown to work")
    block = run.spec.engine.config.get("checkpoint")
    if not isinstance(block, dict) or block.get("load_universal") is not True:
        reasons.append(f"the run file must say {UNIVERSAL_KEY}")
    return Loading(reasons=tuple(reasons))


def _other_stages(saved: SavedCheckpoint, layout: Layout) -> Iterator[str]:
    """Yield why no universal checkpoint leads from a stage to another."""
    there, here = saved.zero_stage or 0, layout.zero_stage
    if 0 in {there, here} and there != here:
        yield f"ZeRO {there} to {here}: without ZeRO there is no universal checkpoint"
    elif (there == _WEIGHTS_STAGE) != (here == _WEIGHTS_STAGE):
        yield f"ZeRO {there} to {here}: DeepSpeed refuses to load one in the other"


def _to_universal(saved: SavedCheckpoint) -> tuple[str, ...]:
    """Return the conversion, and the pointer that loading needs beside it."""
    folder = PurePath(saved.folder)
    name = f"{folder.name}_universal"
    words = (
        *("python3", "-m", "deepspeed.checkpoint.ds_to_universal", "--inject_missing_state"),
        *("--input_folder", str(folder), "--output_folder", str(folder.with_name(name))),
    )
    pointer = shlex.quote(str(folder.with_name("latest")))
    return (shlex.join(words), f"printf %s {shlex.quote(name)} > {pointer}")


_BY_FORMAT = {
    CheckpointFormat.LLMORCH: _llmorch,
    CheckpointFormat.TORCH_DIST: _torch_dist,
    CheckpointFormat.LEGACY: _legacy,
    CheckpointFormat.DEEPSPEED: _deepspeed,
    CheckpointFormat.UNIVERSAL: _universal,
}
