"""What an engine must be able to say; built-in engines and plug-ins use the same door."""

from typing import Protocol

from orchestrator.records.bundle import EngineBundle
from orchestrator.records.engine import EngineCapabilities
from orchestrator.records.plan import Plan


class Engine(Protocol):
    """A training engine, seen from the plan.

    An instance is registered under its name in the entry-point group `llmorch.engines`.
    """

    def capabilities(self) -> EngineCapabilities:
        """Return what this engine runs; the rules refuse everything else."""
        ...

    def render(self, plan: Plan) -> EngineBundle:
        """Return what every rank of the plan is started with.

        Raises:
            EngineRefused: the run lacks something that this engine needs.
        """
        ...
