"""Reads what checkpoints say of themselves: metadata alone, and no class but those named."""
