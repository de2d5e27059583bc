"""Builds a rank's Megatron model chunks of a run, if not told otherwise on the meta device.

The layers are Megatron-Core's own ("local"), as Transformer Engine does not exist without a GPU.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

import torch
from megatron.core import parallel_state
from megatron.core.activations import quick_gelu, squared_relu
from megatron.core.models.gpt import GPTModel
from megatron.core.models.gpt.gpt_layer_specs import (
    get_gpt_decoder_block_spec,
    get_gpt_mtp_block_spec,
)
from megatron.core.transformer.transformer_config import (
    MLATransformerConfig,
    TransformerConfig,
)

from launch.workers.engine_check.questions import Question
from orchestrator.specs.model import ModelCard

META: Final = torch.device("meta")
_ACTIVATIONS: Final = {
    "gelu": torch.nn.functional.gelu,
    "gelu_tanh": torch.nn.functional.gelu,
    "quick_gelu": quick_gelu,
    "silu": torch.nn.functional.silu,
    "squared_relu": squared_relu,
}


class NoCore(torch.nn.Module):
    """Stands for the core of latent attention, which has no parameters.

    Megatron's own, without Transformer Engine, does not take the widths that its latent attention
    hands over.
    """

    def __init__(self, **_: object) -> None:
        super().__init__()


def config_of(
    question: Question, card: ModelCard, *, device: torch.device = META
) -> TransformerConfig:
    """Return Megatron's configuration of a run; Megatron refuses what it cannot do."""
    fields = {**_dimensions(card), **_layout(question), **_recompute(question)}
    fields |= {
        "perform_initialization": device != META,
        "init_model_with_meta_device": device == META,
    }
    if card.moe is not None:
        fields |= _experts(card)
    if card.mla is None:
        return TransformerConfig(**fields)
    return MLATransformerConfig(
        **fields,
        multi_latent_attention=True,
        q_lora_rank=card.mla.q_lora_rank,
        kv_lora_rank=card.mla.kv_lora_rank,
        qk_head_dim=card.mla.qk_nope_head_dim,
        qk_pos_emb_head_dim=card.mla.qk_rope_head_dim,
        v_head_dim=card.mla.v_head_dim,
    )


def chunks_of(
    question: Question, card: ModelCard, config: TransformerConfig, *, device: torch.device = META
) -> list[GPTModel]:
    """Return the rank's model chunks, first chunk first."""
    chunks = range(question.vpp) if question.vpp > 1 else (None,)
    with made_on(device):
        return [_chunk(question, card, config, vp_stage) for vp_stage in chunks]


def made_on(device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which tensors are made on a device.

    Of the CPU, none: torch's own would call the shim's answer to `Tensor.type()` a second time.
    """
    return device if device == META else nullcontext()


def _chunk(
    question: Question, card: ModelCard, config: TransformerConfig, vp_stage: int | None
) -> GPTModel:
    spec = get_gpt_decoder_block_spec(
        config,
        use_transformer_engine=False,
        normalization=card.normalization,
        qk_l2_norm=card.qk_l2_norm,
        vp_stage=vp_stage,
    )
    if card.mla is not None:
        for layer in spec.layer_specs:
            layer.submodules.self_attention.submodules.core_attention = NoCore
    mtp = None
    if card.mtp_num_layers:
        mtp = get_gpt_mtp_block_spec(config, spec, use_transformer_engine=False, vp_stage=vp_stage)
    is_first = parallel_state.is_pipeline_first_stage(ignore_virtual=False, vp_stage=vp_stage)
    is_last = parallel_state.is_pipeline_last_stage(ignore_virtual=False, vp_stage=vp_stage)
    return GPTModel(
        config=config,
        transformer_layer_spec=spec,
        vocab_size=question.padded_vocab_size,
        max_sequence_length=card.max_sequence_length,
        pre_process=is_first,
        post_process=is_last,
        parallel_output=True,
        share_embeddings_and_output_weights=card.tied_embeddings,
        position_embedding_type=card.position_embedding,
        rotary_base=card.rotary_base or 10_000,
        mtp_block_spec=mtp,
        vp_stage=vp_stage,
    )


def _dimensions(card: ModelCard) -> dict[str, Any]:
    return {
        "num_layers": card.num_layers,
        "hidden_size": card.hidden_size,
        "ffn_hidden_size": card.ffn_hidden_size,
        "num_attention_heads": card.num_attention_heads,
        "num_query_groups": card.num_query_groups,
        "kv_channels": card.head_dim,
        "gated_linear_unit": card.gated_mlp,
        "activation_func": _ACTIVATIONS[card.activation],
        "normalization": card.normalization,
        "add_bias_linear": card.linear_bias,
        "add_qkv_bias": card.qkv_bias,
        "qk_layernorm": card.qk_norm,
        "mtp_num_layers": card.mtp_num_layers or None,
        "softmax_type": "learnable" if card.attention_sinks else "vanilla",
    }


def _experts(card: ModelCard) -> dict[str, Any]:
    moe = card.moe
    assert moe is not None  # noqa: S101  the caller has looked
    return {
        "num_moe_experts": moe.num_experts,
        "moe_router_topk": moe.router_topk,
        "moe_ffn_hidden_size": moe.moe_ffn_hidden_size,
        "moe_shared_expert_intermediate_size": moe.shared_expert_intermediate_size or None,
        "moe_layer_freq": [int(card.is_moe_layer(layer)) for layer in range(card.num_layers)],
        "moe_router_score_function": moe.score_function,
        "moe_router_enable_expert_bias": moe.expert_bias,
        "moe_router_dtype": "fp32" if moe.router_dtype == "fp32" else None,
        "moe_router_load_balancing_type": moe.load_balancing,
        "moe_aux_loss_coeff": moe.aux_loss_coeff,
        "moe_token_dispatcher_type": "alltoall",
    }


def _layout(question: Question) -> dict[str, Any]:
    is_interleaved = question.vpp > 1
    in_fp32 = question.precision == "fp32"
    dtype = torch.float32 if in_fp32 else torch.bfloat16
    split: dict[str, Any] = {}
    if question.stage_layout is not None:
        split["pipeline_model_parallel_layout"] = question.stage_layout
    elif is_interleaved:
        split["virtual_pipeline_model_parallel_size"] = question.vpp
    return {
        **split,
        "tensor_model_parallel_size": question.tp,
        "pipeline_model_parallel_size": question.pp,
        "context_parallel_size": question.cp,
        "expert_model_parallel_size": question.ep,
        "expert_tensor_parallel_size": question.etp,
        "microbatch_group_size_per_vp_stage": question.microbatch_group_size,
        "sequence_parallel": question.sequence_parallel,
        "overlap_p2p_comm": is_interleaved,
        "batch_p2p_comm": not is_interleaved,
        "deallocate_pipeline_outputs": False,
        "bf16": not in_fp32,
        "params_dtype": dtype,
        "pipeline_dtype": dtype,
        "hidden_dropout": 0.0,
        "attention_dropout": 0.0,
        "gradient_accumulation_fusion": False,
        "masked_softmax_fusion": False,
        "bias_activation_fusion": False,
        "bias_dropout_fusion": False,
    }


def _recompute(question: Question) -> dict[str, Any]:
    if question.recompute_granularity == "selective":
        return {
            "recompute_granularity": "selective",
            "recompute_modules": list(question.recompute_modules),
        }
    if question.recompute_granularity == "none":
        return {}
    if question.recompute_layers is None:
        how = {"recompute_method": "uniform", "recompute_num_layers": 1}
    else:
        how = {"recompute_method": "block", "recompute_num_layers": question.recompute_layers}
    return {"recompute_granularity": "full", **how}
