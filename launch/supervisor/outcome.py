"""What a run came to: the verdict, and the numbers that accounts and reports are made of."""

import json
from dataclasses import asdict, dataclass

from launch.supervisor.run_state import Restart
from launch.supervisor.verdict import Verdict
from orchestrator.errors import (
    EngineRefused,
    ExitCode,
    HostError,
    Interrupted,
    LlmorchError,
    StorageError,
    TrainingFailed,
)

OUTCOME_SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome:
    """One controller's reign, from its first event to its verdict.

    `tail` has the last lines of the rank that ended the run, `rest` says where all of them are.
    Losses, steps and speeds are None where no step was reported. `median_tokens_per_s` is of the
    whole run, not of one rank.
    """

    verdict: Verdict
    reason: str
    engine: str
    run_directory: str
    tail: tuple[str, ...]
    rest: str
    last_step: int | None
    first_loss: float | None
    last_loss: float | None
    generations: int
    restarts: tuple[Restart, ...]
    median_step_s: float | None
    median_tokens_per_s: float | None
    committed_steps: tuple[int, ...]
    wall_s: float

    @property
    def exit_code(self) -> ExitCode:
        """What the command returns."""
        return self.verdict.exit_code

    def error(self) -> LlmorchError | None:
        """The error that tells a user why the run did not finish; None when it did."""
        match self.verdict:
            case Verdict.FINISHED:
                return None
            case Verdict.FAILED:
                return TrainingFailed(reason=self.reason, tail=self.tail, rest=self.rest)
            case Verdict.REFUSED:
                return EngineRefused(engine=self.engine, reason=self.reason)
            case Verdict.HOST:
                return HostError(host="launch", problem=self.reason)
            case Verdict.STORAGE:
                return StorageError(path=self.run_directory, problem=self.reason)
            case Verdict.INTERRUPTED:
                return Interrupted(what=self.reason)

    def to_json(self) -> str:
        """The outcome as JSON with stable keys."""
        restarts = [asdict(r) | {"recovery_s": r.recovery_s} for r in self.restarts]
        content = asdict(self) | {"exit_code": int(self.exit_code), "restarts": restarts}
        return json.dumps({"schema": OUTCOME_SCHEMA} | content, indent=2) + "\n"
