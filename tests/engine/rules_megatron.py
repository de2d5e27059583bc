"""What the installed Megatron-Core says of a run: one JSON object a line in, one answer out.

The run is stood up as rank 0 on torch's fake backend and the meta device. What is asked: process
groups, configuration, batch arithmetic, learning-rate schedule, the modules of the rank, and the
first things that a step does. An answer is Megatron's own refusal, or null.
"""

import json
import sys
import warnings
from contextlib import contextmanager, redirect_stdout
from typing import Any

from launch.workers.engine_check import megatron_meta

Run = dict[str, Any]


def serve() -> None:
    warnings.filterwarnings("ignore")
    answers = sys.stdout
    with redirect_stdout(sys.stderr):
        megatron_meta.install()
        for line in sys.stdin:
            answers.write(json.dumps(refusal(json.loads(line))) + "\n")
            answers.flush()


def refusal(run: Run) -> str | None:
    try:
        with _rank_zero(run):
            config = _config(run)
            _batches(run)
            _learning_rate(run)
            model = _model(run, config)
            _first_step(run, model)
    except (AssertionError, ValueError, IndexError) as error:
        return f"{type(error).__name__}: {error}"
    return None


@contextmanager
def _rank_zero(run: Run):
    import torch.distributed as dist
    from megatron.core import parallel_state
    from megatron.core.tensor_parallel.random import model_parallel_cuda_manual_seed
    from torch.testing._internal.distributed.fake_pg import FakeStore

    layout = run["layout"]
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=run["world"])
    try:
        try:
            parallel_state.initialize_model_parallel(
                tensor_model_parallel_size=layout["tp"],
                pipeline_model_parallel_size=layout["pp"],
                virtual_pipeline_model_parallel_size=_vpp(layout),
                context_parallel_size=layout["cp"],
                expert_model_parallel_size=layout["ep"],
                expert_tensor_parallel_size=layout["etp"],
                num_distributed_optimizer_instances=layout["zero_replicas"],
                create_gloo_process_groups=False,
            )
        except RuntimeError as error:
            raise ValueError(error) from error
        model_parallel_cuda_manual_seed(1, force_reset_rng=True)
        yield
    finally:
        parallel_state.destroy_model_parallel()
        dist.destroy_process_group()


def _vpp(layout: Run) -> int | None:
    return layout["vpp"] if layout["vpp"] > 1 else None


def _config(run: Run) -> Any:
    from megatron.core.transformer.transformer_config import (
        MLATransformerConfig,
        TransformerConfig,
    )

    model = run["model"]
    fields = {**_shape(model), **_layout(run), **_experts(model), **_precision(run)}
    if model["mla"] is None:
        return TransformerConfig(**fields)
    mla = model["mla"]
    return MLATransformerConfig(
        **fields,
        multi_latent_attention=True,
        q_lora_rank=mla["q_lora_rank"],
        kv_lora_rank=mla["kv_lora_rank"],
        qk_head_dim=mla["qk_nope_head_dim"],
        qk_pos_emb_head_dim=mla["qk_rope_head_dim"],
        v_head_dim=mla["v_head_dim"],
    )


def _shape(model: Run) -> Run:
    import torch
    from megatron.core.activations import quick_gelu, squared_relu

    activations = {
        "gelu": torch.nn.functional.gelu,
        "gelu_tanh": torch.nn.functional.gelu,
        "quick_gelu": quick_gelu,
        "silu": torch.nn.functional.silu,
        "squared_relu": squared_relu,
    }
    return {
        "num_layers": model["num_layers"],
        "hidden_size": model["hidden_size"],
        "ffn_hidden_size": model["ffn_hidden_size"],
        "num_attention_heads": model["num_attention_heads"],
        "num_query_groups": model["num_query_groups"],
        "kv_channels": model["head_dim"],
        "gated_linear_unit": model["gated_mlp"],
        "activation_func": activations[model["activation"]],
        "normalization": model["normalization"],
        "add_bias_linear": model["linear_bias"],
        "add_qkv_bias": model["qkv_bias"],
        "mtp_num_layers": model["mtp_num_layers"] or None,
        "no_rope_freq": model["nope_layer_interval"],
    }


def _experts(model: Run) -> Run:
    moe = model["moe"]
    if moe is None:
        return {}
    alone = moe["router_topk"] == 1 and moe["score_function"] == "softmax"
    return {
        "num_moe_experts": moe["num_experts"],
        "moe_router_topk": moe["router_topk"],
        "moe_router_pre_softmax": alone,
        "moe_ffn_hidden_size": moe["moe_ffn_hidden_size"],
        "moe_shared_expert_intermediate_size": moe["shared_expert_intermediate_size"] or None,
        "moe_router_score_function": moe["score_function"],
        "moe_router_enable_expert_bias": moe["expert_bias"],
        "moe_router_num_groups": moe["num_groups"],
        "moe_router_group_topk": moe["group_topk"],
        "moe_grouped_gemm": True,
        "moe_token_dispatcher_type": "alltoall",
    }


def _layout(run: Run) -> Run:
    layout, model = run["layout"], run["model"]
    recompute, overlaps_pp = layout["recompute"], "pp" in layout["overlap"]
    fields: Run = {
        "tensor_model_parallel_size": layout["tp"],
        "pipeline_model_parallel_size": layout["pp"],
        "context_parallel_size": layout["cp"],
        "expert_model_parallel_size": layout["ep"],
        "expert_tensor_parallel_size": layout["etp"],
        "microbatch_group_size_per_vp_stage": layout["microbatch_group_size"],
        "sequence_parallel": layout["sequence_parallel"],
        "cp_comm_type": layout["cp_comm_type"],
        "overlap_p2p_comm": overlaps_pp,
        "batch_p2p_comm": not overlaps_pp,
        "overlap_moe_expert_parallel_comm": layout["schedule"] == "combined-1f1b",
        "pipeline_model_parallel_layout": layout["stage_layout"],
        "virtual_pipeline_model_parallel_size": _vpp(layout),
    }
    if recompute["granularity"] == "selective":
        fields["recompute_granularity"] = "selective"
        fields["recompute_modules"] = list(recompute["modules"])
    if recompute["granularity"] == "full":
        fields["recompute_granularity"] = "full"
        fields["recompute_method"] = "block"
        fields["recompute_num_layers"] = recompute["layers"] or model["num_layers"]
    return fields


def _precision(run: Run) -> Run:
    import torch

    is_fp32 = run["precision"] == "fp32"
    dtype = torch.float32 if is_fp32 else torch.bfloat16
    fp8 = {"fp8": "hybrid", "fp8_recipe": run["fp8_recipe"] or "tensorwise"}
    return {
        "bf16": not is_fp32,
        "params_dtype": dtype,
        "pipeline_dtype": dtype,
        "perform_initialization": False,
        "init_model_with_meta_device": True,
        "gradient_accumulation_fusion": False,
        "masked_softmax_fusion": False,
        "bias_activation_fusion": False,
        "bias_dropout_fusion": False,
        "apply_rope_fusion": False,
        # TransformerConfig asks Transformer Engine's version for experts in FP8; there is none.
        **(fp8 if run["precision"] == "fp8" and run["model"]["moe"] is None else {}),
    }


def _batches(run: Run) -> None:
    from megatron.core.num_microbatches_calculator import ConstantNumMicroBatchesCalculator

    layout = run["layout"]
    for size in run["batches"]:
        ConstantNumMicroBatchesCalculator(size, layout["micro_batch_size"], layout["dp"], False, 0)


def _learning_rate(run: Run) -> None:
    import torch
    from megatron.core.optimizer_param_scheduler import OptimizerParamScheduler

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    OptimizerParamScheduler(
        optimizer,
        init_lr=0.0,
        max_lr=1.0,
        min_lr=0.1,
        lr_warmup_steps=run["warmup_steps"],
        lr_decay_steps=run["decay_steps"],
        lr_decay_style="cosine",
        start_wd=0.1,
        end_wd=0.1,
        wd_incr_steps=1,
        wd_incr_style="constant",
    )


def _model(run: Run, config: Any) -> Any:
    """Build the modules of rank 0 without values, whose constructors divide their widths."""
    from dataclasses import replace

    import torch
    from megatron.core.models.gpt import GPTModel
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_decoder_block_spec
    from megatron.core.transformer.transformer_block import get_num_layers_to_build

    from launch.workers.engine_check.megatron_model import NoCore

    model, vpp = run["model"], _vpp(run["layout"])
    vp_stage = 0 if vpp else None
    for stage in range(vpp or 1):
        get_num_layers_to_build(config, vp_stage=stage if vpp else None, pp_rank=0)
    # Which modules are built does not hang on these, and they need Transformer Engine.
    plain = replace(
        config,
        recompute_granularity=None,
        recompute_method=None,
        recompute_num_layers=None,
        recompute_modules=None,
        fp8=None,
        moe_grouped_gemm=False,
        overlap_moe_expert_parallel_comm=False,
    )
    if model["mla"] is not None:
        return None  # without Transformer Engine, latent attention is not built
    spec = get_gpt_decoder_block_spec(
        plain, use_transformer_engine=False, vp_stage=vp_stage, normalization=model["normalization"]
    )
    if run["layout"]["cp"] > 1:
        # Only Transformer Engine's attention takes cp; it has no parameters to divide.
        for layer in spec.layer_specs:
            layer.submodules.self_attention.submodules.core_attention = NoCore
    with torch.device("meta"):
        return GPTModel(
            config=plain,
            transformer_layer_spec=spec,
            vocab_size=run["padded_vocab_size"],
            max_sequence_length=model["max_sequence_length"],
            pre_process=True,
            post_process=False,
            position_embedding_type=model["position_embedding"],
            rotary_base=model["rotary_base"] or 10_000,
            share_embeddings_and_output_weights=False,
            vp_stage=vp_stage,
        )


def _first_step(run: Run, model: Any) -> None:
    """Run what refuses in a step: the cut of the sequence, and the entrance of an MoE layer."""
    import torch

    if model is None:
        return
    length = run["sequence_length"] // run["layout"]["cp"]
    tokens = torch.zeros((1, length), dtype=torch.long, device="meta")
    model.train()
    model.embedding(tokens, tokens)
    for layer in model.decoder.layers:
        if type(layer.mlp).__name__ == "MoELayer":
            _enter(layer.mlp, torch.empty((length, 1, run["model"]["hidden_size"]), device="meta"))
            break


def _enter(layer: Any, hidden: Any) -> None:
    try:
        layer(hidden)
    except ValueError as error:
        if "sequence parallelism" in str(error):
            raise
    except Exception:  # noqa: BLE001  a forward pass without values goes no further
        pass


if __name__ == "__main__":
    serve()
