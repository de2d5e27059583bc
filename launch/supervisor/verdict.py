"""How a run can end."""

from enum import StrEnum

from orchestrator.errors import ExitCode


class Verdict(StrEnum):
    """Why a controller's reign ended."""

    FINISHED = "finished"
    FAILED = "failed"
    REFUSED = "refused"
    HOST = "host"
    STORAGE = "storage"
    INTERRUPTED = "interrupted"

    @property
    def exit_code(self) -> ExitCode:
        """What the command returns."""
        return _EXIT_CODES[self]


_EXIT_CODES = {
    Verdict.FINISHED: ExitCode.OK,
    Verdict.FAILED: ExitCode.TRAINING_FAILED,
    Verdict.REFUSED: ExitCode.ENGINE_REFUSES,
    Verdict.HOST: ExitCode.HOST,
    Verdict.STORAGE: ExitCode.STORAGE,
    Verdict.INTERRUPTED: ExitCode.INTERRUPTED,
}
