"""Deciding: specs, cost, plans. Pure; see docs/architecture.md."""

__version__ = "0.1.0"
