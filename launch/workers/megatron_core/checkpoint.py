"""Stages checkpoints with Megatron's dist_checkpointing, and loads them into any layout it can.

A staged checkpoint holds the weights, the optimizer's state, the step (which is also the learning
rate's position), the consumed samples, the random states and the arguments. Weights and optimizer
state are stored by their global names and shapes, so they load into another layout and ZeRO stage;
random states belong to a place in a layout and load only into the same one.
"""

import json
import os
import queue
import shutil
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch.distributed as dist
from megatron.core import dist_checkpointing
from megatron.core.dist_checkpointing.strategies import filesystem_async
from megatron.core.dist_checkpointing.strategies.async_utils import AsyncRequest
from megatron.core.dist_checkpointing.strategies.filesystem_async import FileSystemWriterAsync
from megatron.core.dist_checkpointing.strategies.torch import TorchDistSaveShardedStrategy

from launch.workers.megatron_core import changes, optimizer_state, random_states
from launch.workers.megatron_core.arguments import ENGINE, Arguments
from launch.workers.megatron_core.engine import Engine
from launch.workers.megatron_core.log import log
from orchestrator.errors import EngineRefused

_GROUP_STATE: Final = ("params", "step")  # what of a parameter group is not a setting


def require_psutil() -> None:
    """Refuse before training what would fail at the first checkpoint.

    megatron-core does not declare that it needs psutil: its writer dies of it, and whoever waits
    for the writer waits forever.

    Raises:
        EngineRefused: psutil is not installed.
    """
    if not filesystem_async.HAVE_PSUTIL:
        reason = "psutil is not installed, and megatron-core cannot save a checkpoint without it"
        raise EngineRefused(engine=ENGINE, reason=reason, instead="pip install psutil")


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """How far training is."""

    step: int
    consumed_samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpointer:
    """Stages and loads what an engine holds."""

    arguments: Arguments
    engine: Engine

    def stage(self, folder: Path, position: Position) -> None:
        """Write this rank's part; on return every rank's part is on disk."""
        if dist.get_rank() == 0:
            shutil.rmtree(folder, ignore_errors=True)  # what an earlier try left under this name
            folder.mkdir(parents=True)
        dist.barrier()
        self.engine.model.gather_weights()
        models = self._models()
        optimizer = optimizer_state.described(self.engine.optimizer, models, is_loading=False)
        state: dict[str, Any] = {**models, "optimizer": optimizer_state.sharded(optimizer)}
        state["random"] = random_states.sharded()
        state["position"] = asdict(position)
        state["world_size"] = dist.get_world_size()
        state["arguments"] = json.dumps(asdict(self.arguments), sort_keys=True)
        dist_checkpointing.save(state, str(folder), sharded_strategy=_InProcessSave())
        if dist.get_rank() == 0:
            _sync_folder(folder)
        dist.barrier()

    def load(self, folder: Path) -> Position:
        """Load a checkpoint, whatever its layout.

        Raises:
            EngineRefused: it is another model's, or its optimizer state has another form.
        """
        common = dist_checkpointing.load_common_state_dict(str(folder))
        saved = json.loads(common["arguments"])
        now = json.loads(json.dumps(asdict(self.arguments)))
        _require_same(saved, now, folder)
        for remark in changes.remarks(saved, now):
            log(remark)
        models = self._models()
        optimizer = optimizer_state.described(self.engine.optimizer, models, is_loading=True)
        wanted: dict[str, Any] = {**models, "optimizer": optimizer_state.sharded(optimizer)}
        there = random_states.home(saved["parallel"], world_size=common["world_size"])
        here = random_states.home(now["parallel"], world_size=dist.get_world_size())
        if there == here:
            wanted["random"] = random_states.sharded()
        else:
            log(f"random states begin anew: they were saved for {there}, here is {here}")
        loaded = dist_checkpointing.load(wanted, str(folder))
        for i, chunk in enumerate(self.engine.model.bare_chunks):
            chunk.load_state_dict(loaded[f"model{i}"])
        position = Position(**loaded["position"])
        self._load_optimizer(optimizer, loaded["optimizer"], step=position.step)
        if "random" in loaded:
            random_states.restore(loaded["random"])
        self.engine.schedule.step(position.step)
        return position

    def _load_optimizer(self, state: dict[str, Any], loaded: dict[str, Any], *, step: int) -> None:
        """Take the state; keep the settings of this run, which Megatron may take as well."""
        settings = [
            {key: value for key, value in group.items() if key not in _GROUP_STATE}
            for group in self.engine.optimizer.param_groups
        ]
        optimizer_state.load(self.engine.optimizer, state, loaded, step=step)
        for group, own in zip(self.engine.optimizer.param_groups, settings, strict=True):
            group.update(own)

    def _models(self) -> dict[str, Any]:
        chunks = enumerate(self.engine.model.bare_chunks)
        return {f"model{i}": chunk.sharded_state_dict() for i, chunk in chunks}


def _require_same(saved: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    """Refuse a checkpoint whose weights or optimizer state cannot be this run's."""
    there, here = _identity(saved), _identity(now)
    differing = [
        f"{key} is {there.get(key)} there and {here.get(key)} here"
        for key in {**here, **there}
        if there.get(key) != here.get(key)
    ]
    if differing:
        reason = f"cannot resume from {folder}: {'; '.join(differing)}"
        raise EngineRefused(engine=ENGINE, reason=reason, instead=_instead(there, here))


def _instead(there: dict[str, Any], here: dict[str, Any]) -> str:
    """What would make them the same. Padding follows tp, so a change of tp alone changes it."""
    if {**there, "padded_vocab_size": None} == {**here, "padded_vocab_size": None}:
        return "choose training.vocab_padding_multiple so that it times tp stays what it was"
    return "resume with the model and precision of the checkpoint, or start a run of its own"


def _identity(arguments: dict[str, Any]) -> dict[str, Any]:
    """What weights and optimizer state depend on; the layout is not of it."""
    model = dict(arguments["model"])
    moe = model.pop("moe") or {}
    experts = {f"moe.{key}": value for key, value in moe.items()}
    return {**model, **experts, "precision": arguments["training"]["precision"]}


class _InProcessSave(TorchDistSaveShardedStrategy):  # type: ignore[misc]  # untyped engine
    """Writes in the rank's own process.

    Megatron writes from forked processes, and collects their results in a manager process which
    imports torch for that: seconds, and orphans when a rank is killed. The save is synchronous, so
    nothing is gained by them.
    """

    def __init__(self) -> None:
        super().__init__("torch_dist", 1, thread_count=1)

    def async_save(  # `strategy` is named by later releases, and "mcore" when they save at once
        self,
        sharded_state_dict: Any,  # noqa: ANN401
        checkpoint_dir: Path,
        **strategy: str,
    ) -> AsyncRequest:
        # A plain queue where Megatron would start its manager.
        filesystem_async._results_queue = queue.Queue()  # noqa: SLF001
        request = super().async_save(sharded_state_dict, checkpoint_dir, **strategy)
        if request.async_fn is None:
            return request
        transforms, _ = request.async_fn.args
        return request._replace(async_fn=partial(_write, transforms))


def _write(transforms: Any, _rank: int, buckets: list[Any], results: "queue.Queue[Any]") -> None:  # noqa: ANN401
    """Write each bucket to its file, flushed to disk; leave the results where they are expected."""
    written = {}
    for index, bucket in enumerate(buckets):
        outcome: queue.Queue[Any] = queue.Queue()
        pending: queue.Queue[int] = queue.Queue()
        pending.put(index)
        FileSystemWriterAsync.write_preloaded_data(
            transforms,
            local_proc_idx=index,
            write_bucket=bucket,
            results_queue=outcome,
            count_queue=pending,
            use_fsync=True,
        )
        _, written[index] = outcome.get_nowait()
        if isinstance(written[index], Exception):
            raise written[index]
    results.put(written)


def _sync_folder(folder: Path) -> None:
    """Flush what Megatron wrote without flushing, and the folder's own entries."""
    for path in (*sorted(folder.iterdir()), folder, folder.parent):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
