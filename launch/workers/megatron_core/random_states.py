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
    """This rank's states, as one cell of the table that a checkpoint keeps.

    Replicas of a (pp, tp) place share theirs, except where experts are spread over them, as in
    Megatron: each rank then draws its own.
    """
    shape = [
        parallel_state.get_pipeline_model_parallel_world_size(),
        parallel_state.get_tensor_model_parallel_world_size(),
    ]
    place = [
        parallel_state.get_pipeline_model_parallel_rank(),
        parallel_state.get_tensor_model_parallel_rank(),
    ]
    replica = parallel_state.get_data_parallel_rank(with_context_parallel=True)
    if parallel_state.get_expert_model_parallel_world_size() > 1:
        shape.append(parallel_state.get_data_parallel_world_size(with_context_parallel=True))
        place.append(replica)
        replica = 0
    states = {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(),
        "tracker": get_cuda_rng_tracker().get_states(),
    }
    return ShardedObject("random_states", states, tuple(shape), tuple(place), replica_id=replica)


def home(parallel: dict[str, Any], *, world_size: int) -> str:
    """Where states belong, of a checkpoint's `parallel` section: only there they load again."""
    place = f"tp {parallel['tp']} pp {parallel['pp']}"
    if parallel["ep"] == 1:
        return place
    replicas = world_size // (parallel["tp"] * parallel["pp"])
    return f"{place} ep {parallel['ep']} etp {parallel['etp']} on {replicas} replicas"


def restore(states: dict[str, Any]) -> None:
    """Take up states that `sharded` described."""
    torch.set_rng_state(states["torch"])
    torch.cuda.set_rng_state(states["cuda"])
    get_cuda_rng_tracker().set_states(states["tracker"])
