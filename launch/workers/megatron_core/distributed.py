"""How a rank finds the others, and the process groups of its layout."""

from datetime import timedelta
from typing import Final

import torch
import torch.distributed as dist
from megatron.core import parallel_state

from launch.workers.megatron_core.arguments import ParallelArguments
from launch.workers.megatron_core.device import Device
from launch.workers.world import World

_RENDEZVOUS_TIMEOUT: Final = timedelta(minutes=5)
# Only a last resort: hangs are found by the supervisor, from the marks.
_COLLECTIVE_TIMEOUT: Final = timedelta(minutes=30)


def join(world: World, device: Device) -> None:
    """Meet the other ranks of this generation."""
    store = dist.TCPStore(  # type: ignore[attr-defined]  # public, not in its __all__
        world.master_addr,
        world.master_port,
        world.size,
        is_master=world.hosts_store,
        timeout=_RENDEZVOUS_TIMEOUT,
    )
    if device.is_gpu:
        torch.cuda.set_device(world.local_rank)
    # Keys of this generation only: a rank that is late from the last one meets nobody.
    own = dist.PrefixStore(f"generation-{world.generation}", store)  # type: ignore[attr-defined]
    dist.init_process_group(
        device.backend,
        store=own,
        rank=world.rank,
        world_size=world.size,
        timeout=_COLLECTIVE_TIMEOUT,
    )


def make_groups(parallel: ParallelArguments) -> None:
    """Build Megatron's process groups for a layout."""
    parallel_state.initialize_model_parallel(
        tensor_model_parallel_size=parallel.tp,
        pipeline_model_parallel_size=parallel.pp,
        virtual_pipeline_model_parallel_size=parallel.vpp if parallel.vpp > 1 else None,
        context_parallel_size=parallel.cp,
        expert_model_parallel_size=parallel.ep,
        expert_tensor_parallel_size=parallel.etp,
        distributed_timeout_minutes=int(_COLLECTIVE_TIMEOUT.total_seconds() // 60),
        create_gloo_process_groups=False,
    )


def leave() -> None:
    """Part from the other ranks when all are done, so that nobody loses a peer mid-message."""
    dist.barrier()
    parallel_state.destroy_model_parallel()
    dist.destroy_process_group()
