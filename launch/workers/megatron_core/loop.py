"""Trains step after step until the last one, or until the ranks agree to leave."""

import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch.distributed as dist

from launch.rank_lines import (
    CheckpointLine,
    EvaluationLine,
    FinishedLine,
    LeftLine,
    RankPhase,
    StepLine,
)
from launch.workers.leave import LeaveRequest
from launch.workers.megatron_core.arguments import ENGINE, Arguments
from launch.workers.megatron_core.checkpoint import Checkpointer, Position
from launch.workers.megatron_core.data import Corpus, Share
from launch.workers.megatron_core.log import log, spoken_evaluation, spoken_step
from launch.workers.megatron_core.memory import peak_bytes
from launch.workers.megatron_core.staged_files import files_of
from launch.workers.megatron_core.step import StepResult, Trainer
from launch.workers.megatron_core.tensorboard import Curves, curves
from launch.workers.report import Reporter
from orchestrator.errors import EngineRefused, StorageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """What training needs; `staging` is None when checkpoints were not asked for."""

    arguments: Arguments
    trainer: Trainer
    training: Corpus
    held_out: Corpus | None
    checkpointer: Checkpointer
    reporter: Reporter
    leave: LeaveRequest
    staging: Path | None

    def run(self, start: Position | None) -> None:
        """Train from a resumed position, or from the beginning; ends staged and reported.

        Raises:
            EngineRefused: the first step of new weights has no finite loss.
            StorageError: a checkpoint cannot be written.
        """
        position = start or Position(step=0, consumed_samples=0)
        if self.staging is None:
            log("no staging folder was given: nothing of this run is kept")
        written = curves(
            self.arguments.logging.tensorboard_dir,
            rank=dist.get_rank(),
            world_size=dist.get_world_size(),
        )
        self.reporter.phase(RankPhase.TRAIN)
        try:
            self._train(position, written, is_staged=start is not None)
        finally:
            written.close()

    def _train(self, position: Position, written: Curves, *, is_staged: bool) -> None:
        last_step = self.arguments.training.steps
        while position.step < last_step:
            result, position = self._advance(position, written)
            if self._evaluates_after(position.step):
                self._evaluate(position, written)
            is_staged = self._is_due(position.step) or result.leaving
            if is_staged:
                self._stage(position)
            if result.leaving and position.step < last_step:
                self.reporter.send(LeftLine(step=position.step))
                return
        if not is_staged:  # only a run of no steps comes here: its beginning is its end
            self._stage(position)
        self.reporter.send(FinishedLine(step=position.step))

    def _advance(self, position: Position, written: Curves) -> tuple[StepResult, Position]:
        training = self.arguments.training
        step = position.step + 1
        batch_size = self.arguments.ramp().batch_size_after(position.step)
        share = self._share(self.training, position.consumed_samples, batch_size)
        self.reporter.step = step
        began_s = time.perf_counter()
        result = self.trainer.run_step(share, self.leave)
        line = StepLine(
            step=step,
            loss=result.loss,
            grad_norm=result.grad_norm,
            learning_rate=result.learning_rate,
            tokens=batch_size * training.sequence_length,
            duration_s=time.perf_counter() - began_s,
            memory_bytes=peak_bytes(),
            skipped=int(result.skipped),
        )
        self.reporter.send(line)
        if step == 1:
            _require_finite(result, self.arguments)
        consumed = position.consumed_samples + batch_size
        if self._is_logged(step):
            log(spoken_step(line, training.steps))
            written.step(line, batch_size=batch_size, consumed_samples=consumed)
        return result, Position(step=step, consumed_samples=consumed)

    def _evaluate(self, position: Position, written: Curves) -> None:
        """Measure the held-out loss: the same samples each time, so that losses compare."""
        training, evaluation = self.arguments.training, self.arguments.training.evaluation
        if self.held_out is None or evaluation is None:
            return
        self.reporter.phase(RankPhase.EVALUATE)
        began_s = time.perf_counter()
        batch = training.global_batch_size
        losses = [
            self.trainer.evaluate(self._share(self.held_out, nth * batch, batch))
            for nth in range(evaluation.steps)
        ]
        loss = sum(losses) / len(losses)
        line = EvaluationLine(
            step=position.step,
            loss=loss,
            tokens=evaluation.steps * batch * training.sequence_length,
            duration_s=time.perf_counter() - began_s,
        )
        self.reporter.send(line)
        log(spoken_evaluation(line))
        written.evaluation(loss, step=position.step, consumed_samples=position.consumed_samples)
        self.reporter.phase(RankPhase.TRAIN)

    def _share(self, corpus: Corpus, first_position: int, batch_size: int) -> Share:
        num_microbatches = self.arguments.num_microbatches(
            dist.get_world_size(), batch_size=batch_size
        )
        return Share(
            corpus=corpus, first_position=first_position, num_microbatches=num_microbatches
        )

    def _is_due(self, step: int) -> bool:
        is_last = step == self.arguments.training.steps
        return is_last or step % self.arguments.checkpoint.interval_steps == 0

    def _is_logged(self, step: int) -> bool:
        is_last = step == self.arguments.training.steps
        return is_last or step % self.arguments.logging.interval_steps == 0

    def _evaluates_after(self, step: int) -> bool:
        evaluation = self.arguments.training.evaluation
        if evaluation is None:
            return False
        return step == self.arguments.training.steps or step % evaluation.interval_steps == 0

    def _stage(self, position: Position) -> None:
        if self.staging is None:
            return
        self.reporter.phase(RankPhase.SAVE)
        began_s = time.perf_counter()
        folder = self.staging / f"step-{position.step}"
        try:
            self.checkpointer.stage(folder, position)
        except OSError as error:
            raise StorageError(path=str(folder), problem=error.strerror or str(error)) from error
        duration_s = time.perf_counter() - began_s
        self.reporter.send(
            CheckpointLine(
                step=position.step,
                path=str(folder),
                duration_s=duration_s,
                files=files_of(folder, rank=dist.get_rank()),
            )
        )
        log(f"staged {folder} in {duration_s:.2f} s")
        self.reporter.phase(RankPhase.TRAIN)


def _require_finite(result: StepResult, arguments: Arguments) -> None:
    """Refuse weights that are lost before they were any: every restart would lose them again."""
    numbers = {"loss": result.loss, "gradient norm": result.grad_norm}
    lost = {name: x for name, x in numbers.items() if x is not None and not math.isfinite(x)}
    if not lost:
        return
    said = " and the ".join(f"{name} is {number}" for name, number in lost.items())
    model, training = arguments.model, arguments.training
    raise EngineRefused(
        engine=ENGINE,
        reason=f"the {said} at step 1, with the weights as they were drawn",
        instead=f"try a smaller model.init_std (it is {model.init_std}), fp32 instead of "
        f"{training.precision}, or look for what is wrong in {', '.join(arguments.data.prefixes)}",
    )
