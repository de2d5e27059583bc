"""The random states of a rank: seeded by its place, saved and restored with a checkpoint."""

import random
from typing import Any

import numpy as np
import torch
from megatron.core import parallel_state
from megatron.core.dist_checkpointing.mapping import ShardedObject
from megatron.core.tensor_parallel.random import (
    get_cuda_rng_tracker,
    model_parallel_cuda_manual_seed,
)


def seed(base: int) -> None:
    """Seed every generator; pipeline stages differ, so that their weights do, as in Megatron."""
    own = base + 100 * parallel_state.get_pipeline_model_parallel_rank()
    random.seed(own)
    np.random.seed(own)
    torch.manual_seed(own)
    model_parallel_cuda_manual_seed(own)


def sharded() -> ShardedObject:
    """This rank's states, as one cell of the (pp, tp) table that a checkpoint keeps."""
    return ShardedObject(
        "random_states",
        {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(),
            "tracker": get_cuda_rng_tracker().get_states(),
        },
        (
            parallel_state.get_pipeline_model_parallel_world_size(),
            parallel_state.get_tensor_model_parallel_world_size(),
        ),
        (
            parallel_state.get_pipeline_model_parallel_rank(),
            parallel_state.get_tensor_model_parallel_rank(),
        ),
        replica_id=parallel_state.get_data_parallel_rank(),
    )


def restore(states: dict[str, Any]) -> None:
    """Take up states that `sharded` described."""
    torch.set_rng_state(states["torch"])
    torch.cuda.set_rng_state(states["cuda"])
    get_cuda_rng_tracker().set_states(states["tracker"])
