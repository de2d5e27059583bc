"""Is one rank of a DeepSpeed run, as large as it may be, in one process and without a GPU.

The process group is torch's fake backend, which connects to nobody; tensors are on the meta
device, which keeps shapes and no values. DeepSpeed's own classes read the configuration and cut
the states.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

from launch.workers.engine_check.questions import Answer, Question, Topic

META: Final = torch.device("meta")
REFUSALS: Final = (AssertionError, ValueError, NotImplementedError, RuntimeError)
"""What DeepSpeed raises where it does not take a configuration; its own errors are ValueErrors."""

_SHARDING_KEYS: Final = frozenset(
    {
        *("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps"),
        *("bf16", "fp16", "data_types", "zero_optimization"),
    }
)
_SHARDS_GRADIENTS, _SHARDS_WEIGHTS = 2, 3  # ZeRO stages


def answer(question: Question) -> Answer:
    """Return what DeepSpeed answers; its own words where it refuses."""
    try:
        with _standing_at(question):
            if question.topic is Topic.CONFIG:
                return Answer(partition=_understood(question))
            return Answer(partition=_partition(question))
    except REFUSALS as error:
        return Answer(refused=f"{type(error).__name__}: {error}")


def prepare() -> None:
    """Make DeepSpeed take tensors without values; for good, in this process."""
    os.environ.update(DS_ACCELERATOR="cpu", LOCAL_RANK="0")
    # It compiles a function when it is imported; nothing here runs it.
    torch.compile = _uncompiled  # type: ignore[assignment]
    import deepspeed
    from deepspeed.accelerator import get_accelerator
    from deepspeed.runtime.zero import stage3

    # An operator that it builds with a compiler when a process group starts.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    accelerator = get_accelerator()
    accelerator.device_name = lambda *_: "meta"
    accelerator.current_device_name = lambda: "meta"
    accelerator.current_device = lambda: META
    accelerator.pin_memory = lambda tensor, *_, **__: tensor
    stage3.defragment = _in_one_piece


def _uncompiled(function: Any = None, **_: Any) -> Any:  # noqa: ANN401
    return function if function is not None else lambda inner: inner


def _in_one_piece(tensors: list[torch.Tensor]) -> torch.Tensor:
    """Do what `defragment` does, but for the copies: there are no values."""
    whole = torch.empty(sum(map(torch.Tensor.numel, tensors)), dtype=tensors[0].dtype, device=META)
    offset = 0
    for tensor in tensors:
        size = tensor.numel()
        tensor.data = whole.narrow(0, offset, size)
        offset += size
    return whole


@contextmanager
def _standing_at(question: Question) -> Iterator[None]:
    """Be the rank within."""
    import deepspeed.comm.comm as deepspeed_comm
    from deepspeed.comm.torch import TorchBackend
    from deepspeed.utils import groups

    rank, world_size = question.rank, question.world_size
    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=world_size)
    deepspeed_comm.cdb = TorchBackend(
        "fake", timeout=None, init_method=None, rank=rank, world_size=world_size
    )
    try:
        yield
    finally:
        deepspeed_comm.cdb = None
        groups._WORLD_GROUP = None  # noqa: SLF001  it would be remembered for the next question
        dist.destroy_process_group()


def minimal_config(question: Question) -> dict[str, Any]:
    """Return the blocks that are asked about: batch, ZeRO stage, precision; of any engine's run."""
    data_parallel = question.world_size // (question.tp * question.pp)
    micro_batch, microbatches = question.micro_batch_size, question.num_microbatches
    return {
        "train_batch_size": micro_batch * microbatches * data_parallel,
        "train_micro_batch_size_per_gpu": micro_batch,
        "gradient_accumulation_steps": microbatches,
        "zero_optimization": {"stage": question.zero_stage},
        "bf16": {"enabled": question.precision != "fp32"},
    }


def sharding_config(question: Question) -> dict[str, Any]:
    """Return the blocks that decide what a rank keeps, as the run is started with them.

    Without offload: it moves what a rank keeps, and here nothing is kept anywhere.
    """
    if question.config is None:
        return minimal_config(question)
    whole = json.loads(question.config)
    kept = {key: value for key, value in whole.items() if key in _SHARDING_KEYS}
    blocks = kept["zero_optimization"]
    kept["zero_optimization"] = {k: v for k, v in blocks.items() if not k.startswith("offload")}
    return kept


def _understood(question: Question) -> dict[str, int]:
    """Return what DeepSpeed's configuration class makes of ours."""
    from deepspeed.runtime.config import DeepSpeedConfig

    class Grid:
        """What a pipeline's module answers."""

        def get_data_parallel_world_size(self) -> int:
            return question.world_size // (question.pp * question.tp)

    whole = minimal_config(question) if question.config is None else json.loads(question.config)
    config = DeepSpeedConfig(whole, mpu=Grid() if question.pp > 1 else None)
    return {
        "world": int(config.world_size),
        "microbatches": config.gradient_accumulation_steps,
        "batch": config.train_batch_size,
        "stage": config.zero_optimization_stage,
    }


def _partition(question: Question) -> dict[str, int]:
    """Return how many elements of each state this rank keeps."""
    import deepspeed

    model = torch.nn.Module()
    model.tensors = torch.nn.ParameterList(
        torch.nn.Parameter(torch.empty(elements, device=META)) for elements in question.tensors
    )
    optimizer = torch.optim.AdamW(model.parameters())
    engine, *_ = deepspeed.initialize(
        model=model,
        optimizer=optimizer,
        config={**sharding_config(question), "zero_allow_untested_optimizer": True},
    )
    kept = _kept(engine.optimizer, list(model.parameters()), stage=question.zero_stage)
    engine.destroy()
    return kept


def _kept(optimizer: Any, parameters: list[Any], *, stage: int) -> dict[str, int]:  # noqa: ANN401
    if stage == _SHARDS_WEIGHTS:
        shard = sum(group.numel() for group in optimizer.fp32_partitioned_groups_flat)
        weights = sum(parameter.ds_tensor.numel() for parameter in parameters)
        return {"optimizer": shard, "gradients": shard, "weights": weights}
    if hasattr(optimizer, "fp32_groups_flat_partition"):  # BF16 with gradients in FP32, stage 1
        return {"optimizer": sum(part.numel() for part in optimizer.fp32_groups_flat_partition)}
    shard = sum(group.numel() for group in optimizer.single_partition_of_fp32_groups)
    if stage == _SHARDS_GRADIENTS:
        return {"optimizer": shard, "gradients": optimizer.partition_size[0]}
    return {"optimizer": shard}
