"""Deciding what happens to a run: events in, instructions out, a journal of both."""
