"""Trains step after step until the last one, or until the ranks agree to leave."""

import time
from dataclasses import dataclass
from pathlib import Path

from launch.wire import CheckpointLine, FinishedLine, LeftLine, RankPhase, StepLine
from launch.workers.leave import LeaveRequest
from launch.workers.megatron_core.arguments import Arguments
from launch.workers.megatron_core.checkpoint import Checkpointer, Position
from launch.workers.megatron_core.log import log
from launch.workers.megatron_core.step import StepResult, Trainer
from launch.workers.report import Reporter
from orchestrator.errors import StorageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """What training needs; `staging` is None when checkpoints were not asked for."""

    arguments: Arguments
    trainer: Trainer
    checkpointer: Checkpointer
    reporter: Reporter
    leave: LeaveRequest
    staging: Path | None

    def run(self, start: Position | None) -> None:
        """Train from a resumed position, or from the beginning; ends staged and reported."""
        last_step = self.arguments.training.steps
        position = start or Position(step=0, consumed_samples=0)
        is_staged = start is not None
        if self.staging is None:
            log("no staging folder was given: nothing of this run is kept")
        self.reporter.phase(RankPhase.TRAIN)
        while position.step < last_step:
            result, position = self._advance(position)
            is_staged = self._is_due(position.step) or result.leaving
            if is_staged:
                self._stage(position)
            if result.leaving and position.step < last_step:
                self.reporter.send(LeftLine(step=position.step))
                return
        if not is_staged:  # only a run of no steps comes here: its beginning is its end
            self._stage(position)
        self.reporter.send(FinishedLine(step=position.step))

    def _advance(self, position: Position) -> tuple[StepResult, Position]:
        training = self.arguments.training
        step = position.step + 1
        self.reporter.step = step
        began_s = time.perf_counter()
        result = self.trainer.run_step(position.consumed_samples, self.leave)
        line = StepLine(
            step=step,
            loss=result.loss,
            grad_norm=result.grad_norm,
            learning_rate=result.learning_rate,
            tokens=training.global_batch_size * training.sequence_length,
            duration_s=time.perf_counter() - began_s,
        )
        self.reporter.send(line)
        log(_spoken(line, training.steps))
        consumed = position.consumed_samples + training.global_batch_size
        return result, Position(step=step, consumed_samples=consumed)

    def _is_due(self, step: int) -> bool:
        is_last = step == self.arguments.training.steps
        return is_last or step % self.arguments.checkpoint.interval_steps == 0

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
            CheckpointLine(step=position.step, path=str(folder), duration_s=duration_s)
        )
        log(f"staged {folder} in {duration_s:.2f} s")
        self.reporter.phase(RankPhase.TRAIN)


def _spoken(line: StepLine, last_step: int) -> str:
    def number(value: float | None, form: str) -> str:
        return "none" if value is None else format(value, form)

    parts = (
        f"step {line.step}/{last_step}",
        f"loss {number(line.loss, '.4f')}",
        f"grad norm {number(line.grad_norm, '.3f')}",
        f"lr {number(line.learning_rate, '.2e')}",
        f"{line.duration_s:.3f} s",
    )
    return "  ".join(parts)
