"""Records what installed engines really do with a pipeline, for `doctor --engines` and tests."""
