"""Sets up everything a rank trains with, runs the loop, and parts from the other ranks.

All that imports megatron-core hangs below this module: `main` imports it once the arguments have
been accepted and, without a GPU, the shim is in place.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from launch.rank_lines import RankPhase
from launch.workers.leave import LeaveRequest
from launch.workers.megatron_core import distributed
from launch.workers.megatron_core.arguments import Arguments
from launch.workers.megatron_core.checkpoint import Checkpointer, Position, require_psutil
from launch.workers.megatron_core.data import Corpus
from launch.workers.megatron_core.dataset import Datasets, build_datasets
from launch.workers.megatron_core.device import Device
from launch.workers.megatron_core.engine import build_engine
from launch.workers.megatron_core.layers import remarks
from launch.workers.megatron_core.log import log
from launch.workers.megatron_core.loop import Loop
from launch.workers.megatron_core.step import Trainer
from launch.workers.megatron_core.supply import require_supply
from launch.workers.report import Reporter
from launch.workers.sample_index import ensure_index
from launch.workers.world import World


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One rank's work: what to train, from where, to where, and whom to tell."""

    arguments: Arguments
    index: Path
    world: World
    reporter: Reporter
    leave: LeaveRequest
    staging: Path | None
    resume_from: Path | None

    def run(self) -> None:
        """Train to the end, or until asked to leave.

        Raises:
            EngineRefused: Megatron, or this worker, does not take the configuration.
            StorageError: a checkpoint cannot be written.
        """
        if self.world.local_rank == 0:
            ensure_index(self.index, partial(build_datasets, self.arguments))
        if self.staging is not None:
            require_psutil()
        device = Device.here()
        distributed.join(self.world, device)
        for remark in remarks(self.arguments, device):
            log(remark)
        loop = self._build(device)
        start = self._load(loop.checkpointer)
        loop.run(start)
        self.reporter.phase(RankPhase.LEAVE)
        distributed.leave()

    def _build(self, device: Device) -> Loop:
        engine = build_engine(self.arguments, device)
        datasets = build_datasets(self.arguments, self.index)
        require_supply(self.arguments, datasets)
        return Loop(
            arguments=self.arguments,
            trainer=Trainer(arguments=self.arguments, engine=engine),
            training=Corpus(self.arguments, datasets.training),
            held_out=self._held_out(datasets),
            checkpointer=Checkpointer(arguments=self.arguments, engine=engine),
            reporter=self.reporter,
            leave=self.leave,
            staging=self.staging,
        )

    def _held_out(self, datasets: Datasets) -> Corpus | None:
        if datasets.held_out is None:
            return None
        return Corpus(self.arguments, datasets.held_out)

    def _load(self, checkpointer: Checkpointer) -> Position | None:
        if self.resume_from is None:
            return None
        self.reporter.phase(RankPhase.LOAD)
        return checkpointer.load(self.resume_from)
