"""The `megatron-core` engine: our worker on the megatron-core wheel."""
