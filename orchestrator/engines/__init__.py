"""Engines: from a plan to what a rank is started with, each engine in its own folder."""
