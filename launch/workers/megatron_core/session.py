"""Sets up everything a rank trains with, runs the loop, and parts from the other ranks.

All that imports megatron-core hangs below this module: `main` imports it once the arguments have
been accepted and, without a GPU, the shim is in place.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from launch.wire import RankPhase
from launch.workers.leave import LeaveRequest
from launch.workers.megatron_core import distributed
from launch.workers.megatron_core.arguments import Arguments
from launch.workers.megatron_core.checkpoint import Checkpointer, Position
from launch.workers.megatron_core.data import Corpus
from launch.workers.megatron_core.dataset import build_dataset
from launch.workers.megatron_core.engine import build_engine
from launch.workers.megatron_core.loop import Loop
from launch.workers.megatron_core.step import Trainer
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
            ensure_index(self.index, partial(build_dataset, self.arguments))
        distributed.join(self.world)
        loop = self._build()
        start = self._load(loop.checkpointer)
        loop.run(start)
        self.reporter.phase(RankPhase.LEAVE)
        distributed.leave()

    def _build(self) -> Loop:
        engine = build_engine(self.arguments)
        corpus = Corpus(self.arguments, self.index)
        return Loop(
            arguments=self.arguments,
            trainer=Trainer(arguments=self.arguments, engine=engine, corpus=corpus),
            checkpointer=Checkpointer(arguments=self.arguments, engine=engine),
            reporter=self.reporter,
            leave=self.leave,
            staging=self.staging,
        )

    def _load(self, checkpointer: Checkpointer) -> Position | None:
        if self.resume_from is None:
            return None
        self.reporter.phase(RankPhase.LOAD)
        return checkpointer.load(self.resume_from)
