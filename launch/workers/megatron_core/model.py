"""Builds this rank's model chunks: real Megatron GPT modules, wrapped for data parallelism.

Without a GPU the layers are Megatron's own ("local") ones, as Transformer Engine does not exist
there; with one they are Transformer Engine's where it is installed. That second path follows
Megatron's, and has been type-checked but not run.
"""

import importlib.util
from dataclasses import dataclass
from typing import Any, Final

import torch
from megatron.core import parallel_state
from megatron.core.distributed import DistributedDataParallel, DistributedDataParallelConfig
from megatron.core.models.gpt import GPTModel
from megatron.core.models.gpt.gpt_layer_specs import (
    get_gpt_layer_local_spec,
    get_gpt_layer_with_transformer_engine_spec,
)
from megatron.core.transformer.module import Float16Module
from megatron.core.transformer.spec_utils import ModuleSpec
from megatron.core.transformer.transformer_config import TransformerConfig

from launch.workers.megatron_core.arguments import (
    Activation,
    Arguments,
    Granularity,
    ModelArguments,
    PositionEmbedding,
    Precision,
)

_ACTIVATIONS: Final = {
    Activation.GELU: torch.nn.functional.gelu,
    Activation.SILU: torch.nn.functional.silu,
}
DTYPES: Final = {Precision.FP32: torch.float32, Precision.BF16: torch.bfloat16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """This rank's chunks, twice: as the schedule runs them, and bare, as checkpoints see them."""

    config: TransformerConfig
    chunks: list[Any]
    bare_chunks: list[Any]


def build_model(arguments: Arguments) -> Model:
    """Build the chunks that this rank's place in the pipeline gives it."""
    config = transformer_config(arguments)
    vpp = arguments.parallel.vpp
    bare = [_build_chunk(arguments, config, i if vpp > 1 else None) for i in range(vpp)]
    placed = [chunk.to(torch.cuda.current_device()) for chunk in bare]
    if arguments.training.precision is Precision.BF16:
        placed = [Float16Module(config, chunk) for chunk in placed]
    chunks = [_replicate(arguments, config, i, chunk) for i, chunk in enumerate(placed)]
    return Model(config=config, chunks=chunks, bare_chunks=bare)


def transformer_config(arguments: Arguments) -> TransformerConfig:
    """Megatron's configuration for these arguments; Megatron refuses what it cannot do."""
    precision = arguments.training.precision
    return TransformerConfig(
        **_dimensions(arguments.model),
        **_layout(arguments),
        **_recompute(arguments),
        hidden_dropout=arguments.training.hidden_dropout,
        attention_dropout=arguments.training.attention_dropout,
        bf16=precision is Precision.BF16,
        params_dtype=DTYPES[precision],
        pipeline_dtype=DTYPES[precision],
        use_cpu_initialization=not torch.cuda.is_available(),
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


def _layout(arguments: Arguments) -> dict[str, Any]:
    parallel = arguments.parallel
    is_interleaved = parallel.vpp > 1
    on_gpu = torch.cuda.is_available()
    return {
        "tensor_model_parallel_size": parallel.tp,
        "pipeline_model_parallel_size": parallel.pp,
        "virtual_pipeline_model_parallel_size": parallel.vpp if is_interleaved else None,
        "microbatch_group_size_per_vp_stage": parallel.microbatch_group_size,
        "sequence_parallel": parallel.sequence_parallel,
        # Interleaving with two pipeline ranks and batched messages trains silently wrong: two
        # sends between the same pair get mixed up. Megatron does not check it.
        "overlap_p2p_comm": is_interleaved,
        "batch_p2p_comm": not is_interleaved,
        # gloo still reads an output when this would free it, and silently sends garbage.
        "deallocate_pipeline_outputs": on_gpu,
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
            return {
                "recompute_granularity": "full",
                "recompute_method": "uniform",
                "recompute_num_layers": recompute.layers or 1,
            }


def _build_chunk(arguments: Arguments, config: TransformerConfig, vp_stage: int | None) -> GPTModel:
    model = arguments.model
    rope = model.position_embedding is PositionEmbedding.ROPE
    return GPTModel(
        config=config,
        transformer_layer_spec=_layer_spec(model),
        vocab_size=model.padded_vocab_size,
        max_sequence_length=model.max_sequence_length,
        pre_process=parallel_state.is_pipeline_first_stage(ignore_virtual=False, vp_stage=vp_stage),
        post_process=parallel_state.is_pipeline_last_stage(ignore_virtual=False, vp_stage=vp_stage),
        parallel_output=True,
        share_embeddings_and_output_weights=model.tied_embeddings,
        position_embedding_type=model.position_embedding.value,
        **({"rotary_base": model.rotary_base} if rope else {}),
        vp_stage=vp_stage,
    )


def _layer_spec(model: ModelArguments) -> ModuleSpec:
    if torch.cuda.is_available() and importlib.util.find_spec("transformer_engine"):
        return get_gpt_layer_with_transformer_engine_spec(qk_layernorm=model.qk_norm)
    return get_gpt_layer_local_spec(
        qk_layernorm=model.qk_norm, normalization=model.normalization.value
    )


def _replicate(
    arguments: Arguments, config: TransformerConfig, index: int, chunk: torch.nn.Module
) -> DistributedDataParallel:
    return DistributedDataParallel(
        config=config,
        ddp_config=DistributedDataParallelConfig(
            use_distributed_optimizer=arguments.parallel.zero_stage == 1,
            grad_reduce_in_fp32=True,
        ),
        module=chunk,
        disable_bucketing=index > 0,  # as Megatron: only the first chunk's buckets are overlapped
    )
