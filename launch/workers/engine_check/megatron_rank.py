"""Is one rank of a Megatron run, as large as it may be, in one process and without a GPU.

Process groups are Megatron's own on torch's fake backend, which connects to nobody; models are on
the meta device, which keeps shapes and no values; collectives are recorded and not made.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

import torch
import torch.distributed as dist
from megatron.core import parallel_state
from megatron.core.distributed import (
    DistributedDataParallel,
    DistributedDataParallelConfig,
    finalize_model_grads,
)
from megatron.core.optimizer import OptimizerConfig, get_megatron_optimizer
from megatron.core.pipeline_parallel import get_forward_backward_func
from megatron.core.tensor_parallel import (
    ColumnParallelLinear,
    RowParallelLinear,
    VocabParallelEmbedding,
)
from megatron.core.tensor_parallel.random import model_parallel_cuda_manual_seed
from megatron.core.transformer.dot_product_attention import DotProductAttention
from megatron.core.transformer.module import Float16Module
from torch.testing._internal.distributed.fake_pg import FakeStore

from launch.clock import SystemClock
from launch.workers.engine_check import megatron_model
from launch.workers.engine_check.questions import Answer, Held, Question, Recorded, Topic
from launch.workers.engine_check.recorder import Recorder
from orchestrator.specs.model import ModelCard

REFUSALS: Final = (AssertionError, ValueError, NotImplementedError)
"""What Megatron raises where it does not take a configuration; else we did not understand it."""


def answer(question: Question, recorder: Recorder) -> Answer:
    """Return what Megatron answers; its own words where it refuses."""
    card = ModelCard.model_validate_json(json.dumps(question.model))
    clock = SystemClock()
    began_s = clock.monotonic_s()
    found = Answer()
    try:
        with _standing_at(question):
            found = replace(found, groups=_groups(), groups_s=clock.monotonic_s() - began_s)
            if question.topic is Topic.PARAMETERS:
                return replace(found, held=_held(question, card))
            if question.topic is Topic.STEP:
                return replace(found, recorded=recorded_step(question, card, recorder))
            return found
    except REFUSALS as error:
        return replace(found, refused=f"{type(error).__name__}: {error}")


@contextmanager
def _standing_at(question: Question) -> Iterator[None]:
    """Be the rank within."""
    dist.init_process_group(
        "fake", store=FakeStore(), rank=question.rank, world_size=question.world_size
    )
    try:
        make_groups(question)
        model_parallel_cuda_manual_seed(1, force_reset_rng=True)
        yield
    finally:
        parallel_state.destroy_model_parallel()
        dist.destroy_process_group()


def make_groups(question: Question) -> None:
    """Make Megatron's process groups.

    Raises:
        ValueError: Megatron refuses the layout.
    """
    try:
        parallel_state.initialize_model_parallel(
            tensor_model_parallel_size=question.tp,
            pipeline_model_parallel_size=question.pp,
            virtual_pipeline_model_parallel_size=question.vpp if question.vpp > 1 else None,
            context_parallel_size=question.cp,
            expert_model_parallel_size=question.ep,
            expert_tensor_parallel_size=question.etp,
            num_distributed_optimizer_instances=question.zero_replicas,
            create_gloo_process_groups=False,
        )
    except RuntimeError as error:  # "world_size is not divisible by ..."
        raise ValueError(error) from error


def _groups() -> dict[str, list[int]]:
    """Return the rank's groups by our names; those that it is not in are absent."""
    state = parallel_state
    found = {
        "tp": state.get_tensor_model_parallel_group(),
        "cp": state.get_context_parallel_group(),
        "dp": state.get_data_parallel_group(),
        "dp-cp": state.get_data_parallel_group(with_context_parallel=True),
        "pp": state.get_pipeline_model_parallel_group(),
        "model": state.get_model_parallel_group(),
        "tp-cp": state.get_tensor_and_context_parallel_group(),
        "tp-dp": state.get_tensor_and_data_parallel_group(),
        "tp-dp-cp": state.get_tensor_and_data_parallel_group(with_context_parallel=True),
        "embedding": state.get_embedding_group(check_initialized=False),
        "position-embedding": state.get_position_embedding_group(check_initialized=False),
        "ep": state.get_expert_model_parallel_group(),
        "expert-tp": state.get_expert_tensor_parallel_group(),
        "expert-tp-ep": state.get_expert_tensor_and_model_parallel_group(),
        "expert-model": state.get_expert_tensor_model_pipeline_parallel_group(),
        "expert-dp": state.get_expert_data_parallel_group(),
        "shard": state.get_data_parallel_group(
            with_context_parallel=True, partial_data_parallel=True
        ),
        "expert-shard": state.get_expert_data_parallel_group(partial_expert_data_parallel=True),
        "replica": state.get_inter_distributed_optimizer_instance_group(check_initialized=False),
        "world": dist.group.WORLD,
    }
    return {name: dist.get_process_group_ranks(group) for name, group in found.items() if group}


def _held(question: Question, card: ModelCard) -> Held:
    chunks = megatron_model.chunks_of(question, card, megatron_model.config_of(question, card))
    counts: dict[str, int] = dict.fromkeys(Held.__slots__, 0)
    for chunk in chunks:
        cut = _cut(chunk)
        for name, parameter in chunk.named_parameters():
            expert = "expert_" if ".experts." in name else ""
            how = "sharded" if parameter in cut else "whole"
            counts[f"{expert}{how}"] += parameter.numel()
            if getattr(parameter, "shared", False):
                counts["tied"] += parameter.numel()
    return Held(**counts)


def _cut(chunk: torch.nn.Module) -> set[torch.nn.Parameter]:
    """Return the parameters of which each tp rank holds another part."""
    cut: list[torch.nn.Parameter | None] = []
    for module in chunk.modules():
        if isinstance(module, ColumnParallelLinear):
            cut += [module.weight, module.bias]
        elif isinstance(module, RowParallelLinear | VocabParallelEmbedding):
            cut.append(module.weight)
        elif isinstance(module, DotProductAttention):
            cut.append(module.softmax_offset)
    return {parameter for parameter in cut if parameter is not None}


def recorded_step(
    question: Question,
    card: ModelCard,
    recorder: Recorder,
    *,
    device: torch.device = megatron_model.META,
) -> tuple[Recorded, ...]:
    """Return the collectives of one step: forward, backward, finished gradients, optimizer."""
    config = megatron_model.config_of(question, card, device=device)
    bare = megatron_model.chunks_of(question, card, config, device=device)
    with megatron_model.made_on(device):
        chunks = [_replicated(question, config, chunk, i) for i, chunk in enumerate(bare)]
        optimizer = _optimizer(question, chunks)
        config.finalize_model_grads_func = finalize_model_grads
        config.grad_scale_func = optimizer.scale_loss
        with recorder.recording() as recorded:
            _forward_backward(question, chunks)
            optimizer.step()
            return recorded()


def _replicated(question: Question, config: Any, chunk: Any, index: int) -> Any:  # noqa: ANN401
    module = chunk if question.precision == "fp32" else Float16Module(config, chunk)
    sharded = question.zero_stage == 1
    return DistributedDataParallel(
        config=config,
        ddp_config=DistributedDataParallelConfig(
            use_distributed_optimizer=sharded,
            grad_reduce_in_fp32=True,
            overlap_grad_reduce=question.overlaps_dp,
            overlap_param_gather=question.overlaps_dp and sharded,
        ),
        module=module,
        disable_bucketing=index > 0,
    )


def _optimizer(question: Question, chunks: list[Any]) -> Any:  # noqa: ANN401
    in_fp32 = question.precision == "fp32"
    settings = OptimizerConfig(
        optimizer="adam",
        lr=1e-4,
        weight_decay=0.1,
        clip_grad=1.0,
        bf16=not in_fp32,
        params_dtype=torch.float32 if in_fp32 else torch.bfloat16,
        use_distributed_optimizer=question.zero_stage == 1,
        overlap_param_gather=question.overlaps_dp and question.zero_stage == 1,
    )
    return get_megatron_optimizer(settings, chunks, use_gloo_process_groups=False)


def _forward_backward(question: Question, chunks: list[Any]) -> None:
    length, size = question.sequence_length, question.micro_batch_size
    tokens = torch.zeros(size, length, dtype=torch.long)
    mask = torch.zeros(1, 1, length, length, dtype=torch.bool)

    def forward(_: object, chunk: Any) -> tuple[torch.Tensor, Any]:  # noqa: ANN401
        output = chunk(tokens, tokens, mask, labels=tokens)
        return output, lambda losses: (losses.float().mean(), {})

    is_one = len(chunks) == 1
    get_forward_backward_func()(
        forward_step_func=forward,
        data_iterator=None if is_one else [None] * len(chunks),
        model=chunks[0] if is_one else chunks,
        num_microbatches=question.num_microbatches,
        seq_length=length,
        micro_batch_size=size,
        forward_only=False,
    )
