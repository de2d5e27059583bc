"""Stages checkpoints with Megatron's dist_checkpointing, and loads them into any layout it can.

A staged checkpoint holds the weights, the optimizer's state, the step (which is also the learning
rate's position), the consumed samples, the random states and the arguments. Weights and optimizer
state are stored by their global names and shapes, so they load into another tp, pp or dp; random
states belong to a (pp, tp) place and load only into the same one.
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

from launch.workers.megatron_core import random_states
from launch.workers.megatron_core.arguments import ENGINE, Arguments
from launch.workers.megatron_core.engine import Engine
from launch.workers.megatron_core.log import log
from orchestrator.errors import EngineRefused

# The other formats cannot change tp or pp, or do not work with torch's Adam in 0.16.1.
_OPTIMIZER_FORMAT: Final = {
    "distrib_optim_sharding_type": "fully_reshardable",
    "distrib_optim_fully_reshardable_mem_efficient": False,
}
_GROUP_STATE: Final = ("params", "step")  # what of a parameter group is not a setting


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
        state = self._sharded_state(is_loading=False)
        state["random"] = random_states.sharded()
        state["position"] = asdict(position)
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
        saved = json.loads(dist_checkpointing.load_common_state_dict(str(folder))["arguments"])
        now = json.loads(json.dumps(asdict(self.arguments)))
        _require_same(saved, now, folder)
        wanted = self._sharded_state(is_loading=True)
        there, here = (f"tp {p['tp']} pp {p['pp']}" for p in (saved["parallel"], now["parallel"]))
        if there == here:
            wanted["random"] = random_states.sharded()
        else:
            log(f"random states begin anew: they were saved for {there}, here is {here}")
        loaded = dist_checkpointing.load(wanted, str(folder))
        for i, chunk in enumerate(self.engine.model.bare_chunks):
            chunk.load_state_dict(loaded[f"model{i}"])
        self._load_optimizer(loaded["optimizer"])
        if "random" in loaded:
            random_states.restore(loaded["random"])
        position = Position(**loaded["position"])
        self.engine.schedule.step(position.step)
        return position

    def _load_optimizer(self, state: dict[str, Any]) -> None:
        """Take the state; keep the settings of this run, which Megatron would take as well."""
        settings = [
            {key: value for key, value in group.items() if key not in _GROUP_STATE}
            for group in self.engine.optimizer.param_groups
        ]
        self.engine.optimizer.load_state_dict(state)
        for group, own in zip(self.engine.optimizer.param_groups, settings, strict=True):
            group.update(own)

    def _sharded_state(self, *, is_loading: bool) -> dict[str, Any]:
        chunks = enumerate(self.engine.model.bare_chunks)
        models = {f"model{i}": chunk.sharded_state_dict() for i, chunk in chunks}
        optimizer = self.engine.optimizer.sharded_state_dict(
            dict(models), is_loading=is_loading, metadata=_OPTIMIZER_FORMAT
        )
        return {**models, "optimizer": optimizer}


def _require_same(saved: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    """Refuse a checkpoint whose weights or optimizer state cannot be this run's."""
    kept = [("model", key) for key in now["model"]]
    differing = [
        f"{key} is {saved[section].get(key)} there and {now[section][key]} here"
        for section, key in (*kept, ("parallel", "zero_stage"), ("training", "precision"))
        if saved[section].get(key) != now[section][key]
    ]
    if differing:
        reason = f"cannot resume from {folder}: {'; '.join(differing)}"
        raise EngineRefused(engine=ENGINE, reason=reason)


class _InProcessSave(TorchDistSaveShardedStrategy):  # type: ignore[misc]  # untyped engine
    """Writes in the rank's own process.

    Megatron writes from forked processes, and collects their results in a manager process which
    imports torch for that: seconds, and orphans when a rank is killed. The save is synchronous, so
    nothing is gained by them.
    """

    def __init__(self) -> None:
        super().__init__("torch_dist", 1, thread_count=1)

    def async_save(self, sharded_state_dict: Any, checkpoint_dir: Path) -> AsyncRequest:  # noqa: ANN401
        # A plain queue where Megatron would start its manager.
        filesystem_async._results_queue = queue.Queue()  # noqa: SLF001
        request = super().async_save(sharded_state_dict, checkpoint_dir)
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
