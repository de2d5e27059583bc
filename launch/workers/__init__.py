"""What runs inside ranks: the only importers of torch and of training engines."""
