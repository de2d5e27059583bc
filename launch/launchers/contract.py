"""What every launcher can do."""

from typing import Protocol

from launch.request import LaunchRequest
from launch.run_directory import RunDirectory
from launch.supervisor.observer import Observer
from launch.supervisor.outcome import RunOutcome
from orchestrator.records.bundle import EngineBundle
from orchestrator.records.run import ResolvedRun


class Launcher(Protocol):
    """Starts runs in one way; found by its entry point in the group `llmorch.launchers`."""

    @property
    def name(self) -> str:
        """What `launch.via` calls it."""

    def prepare(self, bundle: EngineBundle, run: ResolvedRun) -> LaunchRequest:
        """What `submit` would take; nothing is touched.

        Raises:
            LlmorchError: this launcher cannot start such a run.
        """

    def submit(
        self, request: LaunchRequest, directory: RunDirectory, observer: Observer
    ) -> RunOutcome:
        """Start the run and stay with it to its verdict."""

    def resume(
        self, request: LaunchRequest, directory: RunDirectory, observer: Observer
    ) -> RunOutcome:
        """Go on with a run whose directory is whole, whether its agents still live or not."""
