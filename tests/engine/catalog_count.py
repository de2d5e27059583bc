"""Count cards' parameters in real Megatron-Core models on the meta device: cards in, counts out.

A program of its own, as the shim changes torch for good. Reads a JSON list of model cards on
standard input; writes `{name: parameters}`, or `{name: "refused: ..."}` in Megatron's words.
Experts are spread over as many fake ranks, so that a rank builds one of each layer.
"""

import json
import sys
import warnings

import torch
import torch.distributed as dist
from torch.nn import functional
from torch.testing._internal.distributed.fake_pg import FakeStore

from launch.workers.megatron_core import shim
from orchestrator.specs.model import ModelCard

warnings.filterwarnings("ignore")
shim.install()

from megatron.core import parallel_state  # noqa: E402  after the shim
from megatron.core.activations import quick_gelu, squared_relu  # noqa: E402
from megatron.core.models.gpt import GPTModel  # noqa: E402
from megatron.core.models.gpt.gpt_layer_specs import (  # noqa: E402
    get_gpt_decoder_block_spec,
    get_gpt_mtp_block_spec,
)
from megatron.core.tensor_parallel.random import model_parallel_cuda_manual_seed  # noqa: E402
from megatron.core.transformer import multi_latent_attention  # noqa: E402
from megatron.core.transformer.transformer_config import (  # noqa: E402
    MLATransformerConfig,
    TransformerConfig,
)

ACTIVATIONS = {
    "gelu": functional.gelu,
    "gelu_tanh": functional.gelu,
    "quick_gelu": quick_gelu,
    "silu": functional.silu,
    "squared_relu": squared_relu,
}


def config_of(card: ModelCard) -> TransformerConfig:
    fields = {
        "num_layers": card.num_layers,
        "hidden_size": card.hidden_size,
        "ffn_hidden_size": card.ffn_hidden_size,
        "num_attention_heads": card.num_attention_heads,
        "num_query_groups": card.num_query_groups,
        "kv_channels": card.head_dim,
        "gated_linear_unit": card.gated_mlp,
        "activation_func": ACTIVATIONS[card.activation],
        "normalization": card.normalization,
        "add_bias_linear": card.linear_bias,
        "add_qkv_bias": card.qkv_bias,
        "qk_layernorm": card.qk_norm,
        "mtp_num_layers": card.mtp_num_layers or None,
        "softmax_type": "learnable" if card.attention_sinks else "vanilla",
        "params_dtype": torch.bfloat16,
        "bf16": True,
        "perform_initialization": False,
        "init_model_with_meta_device": True,
        "gradient_accumulation_fusion": False,
        "bias_dropout_fusion": False,
        "masked_softmax_fusion": False,
    }
    if card.moe is not None:
        fields |= {
            "num_moe_experts": card.moe.num_experts,
            "moe_router_topk": card.moe.router_topk,
            "moe_ffn_hidden_size": card.moe.moe_ffn_hidden_size,
            "moe_shared_expert_intermediate_size": card.moe.shared_expert_intermediate_size or None,
            "moe_layer_freq": [int(card.is_moe_layer(layer)) for layer in range(card.num_layers)],
            "moe_router_score_function": card.moe.score_function,
            "moe_router_enable_expert_bias": card.moe.expert_bias,
            "moe_token_dispatcher_type": "alltoall",
            "expert_model_parallel_size": card.moe.num_experts,
        }
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


class NoCore(torch.nn.Module):
    """Stands for the core of latent attention, which has no parameters.

    Megatron's own, without Transformer Engine, does not take the widths that its latent attention
    hands over.
    """

    def __init__(self, **_: object) -> None:
        super().__init__()


def model_of(card: ModelCard) -> GPTModel:
    config = config_of(card)
    spec = get_gpt_decoder_block_spec(
        config,
        use_transformer_engine=False,
        normalization=card.normalization,
        qk_l2_norm=card.qk_l2_norm,
    )
    if card.mla is not None:
        for layer in spec.layer_specs:
            layer.submodules.self_attention.submodules.core_attention = NoCore
    mtp = (
        get_gpt_mtp_block_spec(config, spec, use_transformer_engine=False)
        if card.mtp_num_layers
        else None
    )
    with torch.device("meta"):
        return GPTModel(
            config=config,
            transformer_layer_spec=spec,
            vocab_size=card.vocab_size,
            max_sequence_length=card.max_sequence_length,
            share_embeddings_and_output_weights=card.tied_embeddings,
            position_embedding_type=card.position_embedding,
            rotary_base=card.rotary_base or 10_000,
            mtp_block_spec=mtp,
        )


def parameters_of(card: ModelCard) -> int:
    ranks = card.moe.num_experts if card.moe else 1
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=ranks)
    try:
        parallel_state.initialize_model_parallel(
            expert_model_parallel_size=ranks, create_gloo_process_groups=False
        )
        model_parallel_cuda_manual_seed(1)
        # Megatron marks what each rank holds its own of: such gradients are not all-reduced.
        return sum(
            parameter.numel() * (1 if getattr(parameter, "allreduce", True) else ranks)
            for parameter in model_of(card).parameters()
        )
    finally:
        parallel_state.destroy_model_parallel()
        dist.destroy_process_group()


def answer_for(card: ModelCard) -> int | str:
    try:
        return parameters_of(card)
    except (AssertionError, ValueError, NotImplementedError, RuntimeError) as error:
        return f"refused: {error}"


def main() -> None:
    torch.cuda.current_device = lambda: torch.device("meta")
    torch.cuda.Stream = torch.cuda.Event = lambda *_, **__: None
    # Asked whether a layer is one of Transformer Engine's, which does not exist here: it is not.
    multi_latent_attention.TELinear = type("TELinear", (), {})
    cards = [ModelCard.model_validate_json(json.dumps(fields)) for fields in json.load(sys.stdin)]
    json.dump({card.name: answer_for(card) for card in cards}, sys.stdout)


if __name__ == "__main__":
    main()
