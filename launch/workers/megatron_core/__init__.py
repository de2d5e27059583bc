"""Our training worker on the megatron-core wheel; started once per rank."""
