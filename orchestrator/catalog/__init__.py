"""Built-in cards, and the step from a run file's names to what they mean."""
