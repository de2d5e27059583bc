"""Where megatron-core 0.16.1 and 0.19.2 differ in what this worker calls.

Each difference is one function here, named for what is wanted; the engine is asked for its
signature, not for its version, so that the releases between are served as well.
"""

import inspect

import torch
from megatron.core import parallel_state
from megatron.core.utils import get_batch_on_this_cp_rank


def own_chunks(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """This rank's two chunks of each sequence under context parallelism; all of it without.

    Later releases want to be told that cp does not vary with the sequences, and its group.
    """
    if "is_hybrid_cp" not in inspect.signature(get_batch_on_this_cp_rank).parameters:
        return get_batch_on_this_cp_rank(batch)  # type: ignore[no-any-return]  # untyped engine
    group = parallel_state.get_context_parallel_group()
    return get_batch_on_this_cp_rank(batch, is_hybrid_cp=False, cp_group=group)  # type: ignore[no-any-return]
