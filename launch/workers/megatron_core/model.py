"""Builds this rank's model chunks: real Megatron GPT modules, wrapped for data parallelism."""

from dataclasses import dataclass
from typing import Any, Final

import torch
from megatron.core import parallel_state
from megatron.core.distributed import DistributedDataParallel, DistributedDataParallelConfig
from megatron.core.models.gpt import GPTModel
from megatron.core.transformer.module import Float16Module
from megatron.core.transformer.transformer_config import TransformerConfig

from launch.workers.megatron_core import fp8
from launch.workers.megatron_core.arguments import (
    Activation,
    Arguments,
    CpCommType,
    Granularity,
    ModelArguments,
    MoeArguments,
    Overlap,
    PositionEmbedding,
    Precision,
    RouterDtype,
)
from launch.workers.megatron_core.device import Device
from launch.workers.megatron_core.layers import block_spec

_ACTIVATIONS: Final = {
    Activation.GELU: torch.nn.functional.gelu,
    Activation.SILU: torch.nn.functional.silu,
}
_COMM_TYPES: Final = {
    CpCommType.P2P: "p2p",
    CpCommType.ALL_GATHER: "all_gather",
    CpCommType.ALL_TO_ALL: "a2a",
}
DTYPES: Final = {
    Precision.FP32: torch.float32,
    Precision.BF16: torch.bfloat16,
    Precision.FP8: torch.bfloat16,  # only matrix products are FP8
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """This rank's chunks, twice: as the schedule runs them, and bare, as checkpoints see them."""

    config: TransformerConfig
    chunks: list[Any]
    bare_chunks: list[Any]

    def gather_weights(self) -> None:
        """Complete the weights of a distributed optimizer that would gather them in the next step.

        Until then a rank has new values of its own shard alone: a checkpoint would be a mixture.
        """
        for chunk in self.chunks:
            if chunk.ddp_config.overlap_param_gather:
                chunk.start_param_sync(force_sync=True)


def build_model(arguments: Arguments, device: Device) -> Model:
    """Build the chunks that this rank's place in the pipeline gives it."""
    config = transformer_config(arguments, device)
    vpp = arguments.parallel.vpp
    stages = [stage if vpp > 1 else None for stage in range(vpp)]
    bare = [_build_chunk(arguments, config, device, vp_stage=stage) for stage in stages]
    placed = [chunk.to(torch.cuda.current_device()) for chunk in bare]
    if config.bf16:
        placed = [Float16Module(config, chunk) for chunk in placed]
    chunks = [_replicate(arguments, config, i, chunk) for i, chunk in enumerate(placed)]
    _let_overlap(arguments, config, chunks)
    return Model(config=config, chunks=chunks, bare_chunks=bare)


def transformer_config(arguments: Arguments, device: Device) -> TransformerConfig:
    """Megatron's configuration for these arguments; Megatron refuses what it cannot do."""
    dtype = DTYPES[arguments.training.precision]
    moe = arguments.model.moe
    return TransformerConfig(
        **_dimensions(arguments.model),
        **({} if moe is None else _experts(moe, device)),
        **_layout(arguments, device),
        **_recompute(arguments),
        **fp8.settings(arguments, device),
        hidden_dropout=arguments.training.hidden_dropout,
        attention_dropout=arguments.training.attention_dropout,
        bf16=dtype is torch.bfloat16,
        params_dtype=dtype,
        pipeline_dtype=dtype,
        use_cpu_initialization=not device.is_gpu,
        attention_softmax_in_fp32=True,
        # Fused kernels are CUDA's or compiled ones; parity between layouts is worth more here.
        gradient_accumulation_fusion=False,
        masked_softmax_fusion=False,
        bias_activation_fusion=False,
        bias_dropout_fusion=False,
    )


def _dimensions(model: ModelArguments) -> dict[str, Any]:
    return {
        "num_layers": model.num_layers,
        "hidden_size": model.hidden_size,
        "ffn_hidden_size": model.ffn_hidden_size,
        "num_attention_heads": model.num_attention_heads,
        "num_query_groups": model.num_query_groups,
        "kv_channels": model.head_dim,
        "gated_linear_unit": model.gated_mlp,
        "activation_func": _ACTIVATIONS[model.activation],
        "normalization": model.normalization.value,
        "layernorm_epsilon": model.norm_epsilon,
        "add_bias_linear": model.linear_bias,
        "add_qkv_bias": model.qkv_bias,
        "qk_layernorm": model.qk_norm,
        "init_method_std": model.init_std,
    }


def _experts(moe: MoeArguments, device: Device) -> dict[str, Any]:
    return {
        "num_moe_experts": moe.num_experts,
        "moe_router_topk": moe.router_topk,
        "moe_ffn_hidden_size": moe.ffn_hidden_size,
        "moe_shared_expert_intermediate_size": moe.shared_expert_ffn_hidden_size,
        # A list, even of ones alone, would store layers under other names.
        "moe_layer_freq": 1 if all(moe.layers) else list(moe.layers),
        "moe_router_dtype": "fp32" if moe.router_dtype is RouterDtype.FP32 else None,
        "moe_router_score_function": moe.router_score.value,
        "moe_router_load_balancing_type": moe.load_balancing.value,
        "moe_aux_loss_coeff": moe.aux_loss_coeff,
        "moe_router_enable_expert_bias": moe.expert_bias_update_rate is not None,
        "moe_router_bias_update_rate": moe.expert_bias_update_rate or 0.0,
        "moe_router_num_groups": moe.num_groups,
        "moe_router_group_topk": moe.group_topk,
        "moe_router_topk_scaling_factor": moe.topk_scaling_factor,
        "moe_apply_probs_on_input": moe.apply_probs_on_input,
        "moe_grouped_gemm": device.transformer_engine,
    }


def _layout(arguments: Arguments, device: Device) -> dict[str, Any]:
    parallel = arguments.parallel
    is_interleaved = parallel.vpp > 1
    comm = parallel.cp_comm_type
    return {
        "tensor_model_parallel_size": parallel.tp,
        "pipeline_model_parallel_size": parallel.pp,
        "virtual_pipeline_model_parallel_size": parallel.vpp if is_interleaved else None,
        "pipeline_model_parallel_layout": parallel.stage_layout,
        "microbatch_group_size_per_vp_stage": parallel.microbatch_group_size,
        "context_parallel_size": parallel.cp,
        "cp_comm_type": None if comm is None else _COMM_TYPES[comm],
        "expert_model_parallel_size": parallel.ep,
        "expert_tensor_parallel_size": parallel.etp,
        "moe_token_dispatcher_type": parallel.token_dispatcher.value,
        "sequence_parallel": parallel.sequence_parallel,
        # Interleaving with two pipeline ranks and batched messages trains silently wrong: two
        # sends between the same pair get mixed up. Megatron does not check it.
        "overlap_p2p_comm": is_interleaved,
        "batch_p2p_comm": not is_interleaved,
        # gloo still reads an output when this would free it, and silently sends garbage.
        "deallocate_pipeline_outputs": device.is_gpu,
    }


def _recompute(arguments: Arguments) -> dict[str, Any]:
    recompute = arguments.recompute
    match recompute.granularity:
        case Granularity.NONE:
            return {}
        case Granularity.SELECTIVE:
            return {
                "recompute_granularity": "selective",
                "recompute_modules": list(recompute.modules),
            }
        case Granularity.FULL:
            # The run file counts layers of a stage that are recomputed: Megatron's `block`. Its
            # `uniform` recomputes all of them, in units of so many layers.
            return {
                "recompute_granularity": "full",
                "recompute_method": "uniform" if recompute.layers is None else "block",
                "recompute_num_layers": recompute.layers or 1,
            }


def _build_chunk(
    arguments: Arguments, config: TransformerConfig, device: Device, *, vp_stage: int | None
) -> GPTModel:
    model = arguments.model
    return GPTModel(
        config=config,
        transformer_layer_spec=block_spec(config, device, vp_stage=vp_stage),
        vocab_size=model.padded_vocab_size,
        max_sequence_length=model.max_sequence_length,
        pre_process=parallel_state.is_pipeline_first_stage(ignore_virtual=False, vp_stage=vp_stage),
        post_process=parallel_state.is_pipeline_last_stage(ignore_virtual=False, vp_stage=vp_stage),
        parallel_output=True,
        share_embeddings_and_output_weights=model.tied_embeddings,
        position_embedding_type=model.position_embedding.value,
        **_rotary(model),
        vp_stage=vp_stage,
    )


def _rotary(model: ModelArguments) -> dict[str, Any]:
    if model.position_embedding is not PositionEmbedding.ROPE:
        return {}
    if model.rope_scaling_factor is None:
        return {"rotary_base": model.rotary_base}
    scaling = {"rope_scaling": True, "rope_scaling_factor": model.rope_scaling_factor}
    return {"rotary_base": model.rotary_base, **scaling}


def _replicate(
    arguments: Arguments, config: TransformerConfig, index: int, chunk: torch.nn.Module
) -> DistributedDataParallel:
    sharded = arguments.parallel.zero_stage == 1
    overlapped = Overlap.DP in arguments.parallel.overlap
    return DistributedDataParallel(
        config=config,
        ddp_config=DistributedDataParallelConfig(
            use_distributed_optimizer=sharded,
            overlap_grad_reduce=overlapped,
            overlap_param_gather=overlapped and sharded,
            grad_reduce_in_fp32=True,
        ),
        module=chunk,
        disable_bucketing=index > 0,  # as Megatron: only the first chunk's buckets are overlapped
    )


def _let_overlap(arguments: Arguments, config: TransformerConfig, chunks: list[Any]) -> None:
    """Have the schedule reduce gradients in the backward pass of the last microbatch alone."""
    if Overlap.DP in arguments.parallel.overlap:
        waits = [chunk.no_sync for chunk in chunks]
        config.no_sync_func = waits if len(waits) > 1 else waits[0]
