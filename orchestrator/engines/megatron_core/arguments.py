"""The worker's argument file: everything a rank must know that is equal on all ranks."""

from types import MappingProxyType
from typing import Any

from orchestrator.errors import EngineRefused
from orchestrator.records.batch_ramp import ramp_of
from orchestrator.records.layout import Layout
from orchestrator.records.plan import Plan
from orchestrator.records.run import padded_vocab_size
from orchestrator.specs.choices import OverlapAxis
from orchestrator.specs.layers import MoeSpec
from orchestrator.specs.model import ModelCard
from orchestrator.specs.run import DataSpec
from orchestrator.specs.training import TrainingSpec

SCHEMA = 1

MODEL_FEATURES = ("rope_scaling", "moe")
"""The special fields of a model card that the document can say."""

OVERLAPS = (OverlapAxis.DP, OverlapAxis.PP)
"""The axes whose communication the worker hides; `validate` says so of any other."""

LLAMA3_SCALING = MappingProxyType(
    {
        "type": "llama3",
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
)
"""What Megatron's `rope_scaling` holds fixed (`RotaryEmbedding._apply_scaling`)."""

BIAS_UPDATE_RATE = 1e-3
"""Megatron's `moe_router_bias_update_rate` where a card has none."""


def arguments_of(plan: Plan) -> dict[str, Any]:
    """Return the JSON document that `launch/workers/megatron_core` reads.

    Raises:
        EngineRefused: the run has something that the document cannot say yet.
    """
    run, layout = plan.run, plan.layout
    data, checkpoint = run.spec.data, run.spec.checkpoint
    assert data is not None  # noqa: S101  render() has checked both
    assert checkpoint is not None  # noqa: S101
    return {
        "schema": SCHEMA,
        "model": _model(run.model, padded_vocab_size(run.model, run.training, tp=layout.tp)),
        "parallel": _parallel(layout),
        "recompute": {
            "granularity": layout.recompute.granularity.value,
            "modules": list(layout.recompute.modules),
            "layers": layout.recompute.layers,
        },
        "training": _training(run.training, layout, steps=run.steps),
        "data": _data(data, seed=run.training.seed),
        "checkpoint": {"interval_steps": checkpoint.interval_steps},
        "logging": {
            "interval_steps": run.spec.logging.interval_steps,
            "tensorboard_dir": run.spec.logging.tensorboard_dir,
        },
    }


def _model(model: ModelCard, padded: int) -> dict[str, Any]:
    special = [name for name in model.special_fields() if name not in MODEL_FEATURES]
    if special:
        raise EngineRefused(
            engine="megatron-core",
            reason=f"{model.name} has {', '.join(special)}, which the worker cannot say yet",
            instead="choose a model without them, or another engine",
        )
    return {
        "num_layers": model.num_layers,
        "hidden_size": model.hidden_size,
        "ffn_hidden_size": model.ffn_hidden_size,
        "num_attention_heads": model.num_attention_heads,
        "num_query_groups": model.num_query_groups,
        "head_dim": model.head_dim,
        "vocab_size": model.vocab_size,
        "padded_vocab_size": padded,
        "max_sequence_length": model.max_sequence_length,
        "gated_mlp": model.gated_mlp,
        "activation": model.activation,
        "normalization": model.normalization,
        "norm_epsilon": model.norm_epsilon,
        "position_embedding": model.position_embedding,
        "rotary_base": model.rotary_base,
        "rope_scaling_factor": _rope_scaling_factor(model),
        "tied_embeddings": model.tied_embeddings,
        "qkv_bias": model.qkv_bias,
        "linear_bias": model.linear_bias,
        "qk_norm": model.qk_norm,
        "init_std": model.init_std,
        "moe": None if model.moe is None else _moe(model, model.moe),
    }


def _rope_scaling_factor(model: ModelCard) -> float | None:
    """Return the factor of Llama 3's scaling, the only one that Megatron-Core 0.16.1 has.

    Raises:
        EngineRefused: it is another kind, or differs in what Megatron holds fixed.
    """
    if model.rope_scaling is None:
        return None
    own = dict(model.rope_scaling)
    factor = own.pop("factor", None)
    if isinstance(factor, float | int) and own == LLAMA3_SCALING:
        return float(factor)
    fixed = ", ".join(f"{key} {value}" for key, value in LLAMA3_SCALING.items())
    said = ", ".join(f"{key} {value}" for key, value in model.rope_scaling.items())
    raise EngineRefused(
        engine="megatron-core",
        reason=f"model.rope_scaling: {model.name} scales its rotary positions by {said}",
        instead=f"Megatron-Core has one scaling: {fixed}, and any factor",
    )


def _moe(model: ModelCard, moe: MoeSpec) -> dict[str, Any]:
    rate = moe.expert_bias_update_rate or BIAS_UPDATE_RATE
    return {
        "num_experts": moe.num_experts,
        "router_topk": moe.router_topk,
        "ffn_hidden_size": moe.moe_ffn_hidden_size,
        "shared_expert_ffn_hidden_size": moe.shared_expert_intermediate_size or None,
        "layers": [int(moe.is_moe_layer(layer)) for layer in range(model.num_layers)],
        "router_dtype": moe.router_dtype,
        "router_score": moe.score_function,
        "load_balancing": moe.load_balancing,
        "aux_loss_coeff": moe.aux_loss_coeff,
        "expert_bias_update_rate": rate if moe.expert_bias else None,
        "num_groups": moe.num_groups,
        "group_topk": moe.group_topk,
        "topk_scaling_factor": moe.topk_scaling_factor,
        "apply_probs_on_input": moe.apply_probs_on_input,
    }


def _parallel(layout: Layout) -> dict[str, Any]:
    return {
        "tp": layout.tp,
        "pp": layout.pp,
        "vpp": layout.vpp,
        "cp": layout.cp,
        "cp_comm_type": layout.cp_comm_type,
        "ep": layout.ep,
        "etp": layout.etp,
        "sequence_parallel": layout.sequence_parallel,
        "microbatch_group_size": layout.microbatch_group_size,
        "stage_layout": layout.stage_layout,
        "token_dispatcher": "alltoall",
        "zero_stage": layout.zero_stage,
        "overlap": [axis.value for axis in layout.overlap if axis in OVERLAPS],
    }


def _training(training: TrainingSpec, layout: Layout, *, steps: int) -> dict[str, Any]:
    optimizer = training.optimizer
    return {
        "sequence_length": training.sequence_length,
        "micro_batch_size": layout.micro_batch_size,
        "global_batch_size": training.global_batch_size,
        "batch_ramp": [
            {"first_step": phase.first_step, "global_batch_size": phase.global_batch_size}
            for phase in ramp_of(training).phases
        ],
        "steps": steps,
        "precision": training.precision.value,
        # Absent: the worker's choice, by what its GPU can do.
        "fp8_recipe": training.fp8_recipe,
        "seed": training.seed,
        "hidden_dropout": training.hidden_dropout,
        "attention_dropout": training.attention_dropout,
        "optimizer": {
            "learning_rate": optimizer.learning_rate,
            "min_learning_rate": optimizer.min_learning_rate,
            "initial_learning_rate": optimizer.initial_learning_rate,
            "warmup_steps": optimizer.warmup_steps_of(steps),
            "decay_steps": optimizer.decay_steps_of(steps),
            "decay_style": optimizer.decay_style,
            "wsd_decay_steps": optimizer.wsd_decay_steps,
            "wsd_decay_style": optimizer.wsd_decay_style,
            "beta1": optimizer.beta1,
            "beta2": optimizer.beta2,
            "epsilon": optimizer.epsilon,
            "weight_decay": optimizer.weight_decay,
            "clip_grad": optimizer.clip_grad,
        },
        "evaluation": None if training.evaluation is None else training.evaluation.model_dump(),
    }


def _data(data: DataSpec, *, seed: int) -> dict[str, Any]:
    return {
        "sources": [
            {"prefix": source.prefix, "weight": source.weight} for source in data.sources()
        ],
        "split": data.split,
        "seed": seed if data.seed is None else data.seed,
        "cache_dir": data.cache_dir or f"{data.sources()[0].prefix}.cache",
        "end_of_document": data.end_of_document,
    }
