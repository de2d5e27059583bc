"""Acting: agents, launchers, supervisor, workers; see docs/architecture.md."""

__version__ = "0.1.0"
