"""The worker's argument file: everything a rank must know that is equal on all ranks."""

from typing import Any

from orchestrator.errors import EngineRefused
from orchestrator.records.layout import Layout
from orchestrator.records.plan import Plan
from orchestrator.records.run import padded_vocab_size
from orchestrator.specs.model import ModelCard
from orchestrator.specs.training import TrainingSpec

SCHEMA = 1


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
        "data": {
            "prefix": data.prefix,
            "cache_dir": f"{data.prefix}.cache",
            "end_of_document": data.end_of_document,
        },
        "checkpoint": {"interval_steps": checkpoint.interval_steps},
    }


def _model(model: ModelCard, padded: int) -> dict[str, Any]:
    special = model.special_fields()
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
        "tied_embeddings": model.tied_embeddings,
        "qkv_bias": model.qkv_bias,
        "linear_bias": model.linear_bias,
        "qk_norm": model.qk_norm,
        "init_std": model.init_std,
        "moe": None,
    }


def _parallel(layout: Layout) -> dict[str, Any]:
    if layout.stage_layout is not None:
        raise EngineRefused(
            engine="megatron-core",
            reason=f"stage_layout '{layout.stage_layout}': the worker splits layers evenly so far",
            instead="choose pp x vpp that divides the layers",
        )
    return {
        "tp": layout.tp,
        "pp": layout.pp,
        "vpp": layout.vpp,
        "cp": layout.cp,
        "ep": layout.ep,
        "etp": layout.etp,
        "sequence_parallel": layout.sequence_parallel,
        "microbatch_group_size": layout.microbatch_group_size,
        "zero_stage": layout.zero_stage,
    }


def _training(training: TrainingSpec, layout: Layout, *, steps: int) -> dict[str, Any]:
    optimizer = training.optimizer
    return {
        "sequence_length": training.sequence_length,
        "micro_batch_size": layout.micro_batch_size,
        "global_batch_size": training.global_batch_size,
        "steps": steps,
        "precision": training.precision.value,
        "seed": training.seed,
        "hidden_dropout": training.hidden_dropout,
        "attention_dropout": training.attention_dropout,
        "optimizer": {
            "learning_rate": optimizer.learning_rate,
            "min_learning_rate": optimizer.min_learning_rate,
            "warmup_steps": optimizer.warmup_steps,
            "decay_steps": optimizer.decay_steps or steps,
            "decay_style": optimizer.decay_style,
            "beta1": optimizer.beta1,
            "beta2": optimizer.beta2,
            "epsilon": optimizer.epsilon,
            "weight_decay": optimizer.weight_decay,
            "clip_grad": optimizer.clip_grad,
        },
    }
