"""What a command of `pretrain_gpt.py` says, read back into the run file's own words.

Written from Megatron's side: from its options alone, never from our rows. A reader of words needs
only the kinds of the options (`flags.json`); a parser's namespace comes from Megatron itself.
"""

from typing import Any

from orchestrator.engines.megatron_lm.flags import flags_of
from orchestrator.records.plan import Plan
from orchestrator.specs.choices import OverlapAxis

Said = dict[str, Any]

_NUMBERS = {"int": int, "float": float}


def said_by_words(words: tuple[str, ...], release: str) -> Said:
    """Return the options of a command by their names, as argparse would store them."""
    flags, said = flags_of(release), {}
    position = 0
    while position < len(words):
        flag = flags[words[position]]
        name = words[position].removeprefix("--").replace("-", "_")
        end = position + 1
        while flag.takes_words and end < len(words) and not words[end].startswith("--"):
            end += 1
        read = _NUMBERS.get(flag.type or "", str)
        values = [read(word) for word in words[position + 1 : end]]
        is_list = flag.nargs in {"*", "+"} or isinstance(flag.nargs, int)
        said[name] = (values if is_list else values[0]) if flag.takes_words else True
        position = end
    return said


def said_by_namespace(namespace: Said) -> Said:
    """Return a parser's namespace with the names of options where it has others."""
    return {
        **{name: value for name, value in namespace.items() if value is not None},
        "disable_bias_linear": not namespace["add_bias_linear"],
        "fp8_format": namespace["fp8"],
        "norm_epsilon": namespace["layernorm_epsilon"],
        "no_overlap_p2p_communication": not namespace["overlap_p2p_comm"],
    }


def read(said: Said) -> Said:
    """Return what a command says of model, layout, training, data and checkpoints."""
    return {
        "model": _model(said),
        "layout": _layout(said),
        "training": _training(said),
        "optimizer": _optimizer(said),
        "numerics": _numerics(said),
        "data": _data(said),
        "checkpoint": said.get("save_interval"),
        "logging": (said.get("log_interval"), said.get("tensorboard_dir")),
    }


def _model(said: Said) -> Said:
    heads = said["num_attention_heads"]
    grouped = said.get("group_query_attention")
    return {
        "num_layers": said["num_layers"],
        "hidden_size": said["hidden_size"],
        "ffn_hidden_size": said["ffn_hidden_size"],
        "num_attention_heads": heads,
        "num_query_groups": said["num_query_groups"] if grouped else heads,
        "head_dim": said["kv_channels"],
        "vocab_size": said["vocab_size"],
        "gated_mlp": bool(said.get("swiglu") or said.get("quick_geglu")),
        "normalization": said["normalization"],
        "norm_epsilon": said["norm_epsilon"],
        "tied_embeddings": not said.get("untie_embeddings_and_output_weights"),
        "linear_bias": not said.get("disable_bias_linear"),
        "qk_norm": bool(said.get("qk_layernorm")),
        "init_std": said["init_method_std"],
        "moe": _experts(said),
        "mla": _latents(said),
        "mtp_num_layers": said.get("mtp_num_layers") or 0,
    }


def _experts(said: Said) -> tuple[Any, ...] | None:
    if not said.get("num_experts"):
        return None
    return (
        said["num_experts"],
        said["moe_router_topk"],
        said["moe_ffn_hidden_size"],
        said.get("moe_shared_expert_intermediate_size") or 0,
        said["moe_router_score_function"],
        str(said["moe_layer_freq"]).replace(" ", ""),
    )


def _latents(said: Said) -> tuple[Any, ...] | None:
    if not said.get("multi_latent_attention"):
        return None
    names = ("kv_lora_rank", "qk_head_dim", "qk_pos_emb_head_dim", "v_head_dim")
    return (said.get("q_lora_rank"), *(said[name] for name in names))


def _layout(said: Said) -> Said:
    zero = 1 if said.get("use_distributed_optimizer") else 0
    if said.get("use_megatron_fsdp"):
        zero = {"optim_grads": 2, "optim_grads_params": 3}[said["data_parallel_sharding_strategy"]]
    cp = said["context_parallel_size"]
    return {
        "tp": said["tensor_model_parallel_size"],
        "pp": said["pipeline_model_parallel_size"],
        "cp": cp,
        "vpp": said.get("num_virtual_stages_per_pipeline_rank") or 1,
        "ep": said.get("expert_model_parallel_size") or 1,
        "etp": said.get("expert_tensor_parallel_size"),
        "micro_batch_size": said["micro_batch_size"],
        "zero_stage": zero,
        "zero_replicas": said.get("num_distributed_optimizer_instances") or 1,
        "sequence_parallel": bool(said.get("sequence_parallel")),
        "hides_dp": bool(said.get("overlap_grad_reduce")),
        "cp_comm_type": _first(said.get("cp_comm_type")) if cp > 1 else None,
        "stage_layout": said.get("pipeline_model_parallel_layout"),
        "recompute": _recompute(said),
    }


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) else value


def _recompute(said: Said) -> tuple[Any, ...]:
    kind = said.get("recompute_granularity")
    if kind is None:
        return ("none",)
    if kind == "selective":
        return (kind, *said["recompute_modules"])
    every = said["recompute_method"] == "uniform"
    return (kind, None if every else said["recompute_num_layers"])


def _training(said: Said) -> Said:
    bf16, fp8 = said.get("bf16"), said.get("fp8_format")
    return {
        "sequence_length": said["seq_length"],
        "phases": _phases(said),
        "length": said.get("train_samples") or said.get("train_iters"),
        "precision": "fp8" if fp8 else ("bf16" if bf16 else "fp32"),
        "fp8_recipe": str(said["fp8_recipe"]) if fp8 else None,
        "seed": said["seed"],
        "vocab_padding_multiple": said["make_vocab_size_divisible_by"],
        "dropout": (said["hidden_dropout"], said["attention_dropout"]),
        "evaluation": (said["eval_interval"], said["eval_iters"]) if said["eval_iters"] else None,
    }


def _phases(said: Said) -> list[tuple[int, int]]:
    """Return from which consumed sample on a step has how many."""
    if said.get("step_batch_size_schedule"):
        pairs = (pair.split(":") for pair in said["step_batch_size_schedule"].split(" "))
        return [(int(tokens) // said["seq_length"], int(size)) for tokens, size in pairs]
    last = said["global_batch_size"]
    if not said.get("rampup_batch_size"):
        return [(0, last)]
    start, increment, samples = map(int, said["rampup_batch_size"])
    number = (last - start) // increment
    return [(samples * i // number, start + increment * i) for i in range(number + 1)]


def _optimizer(said: Said) -> Said:
    by_samples = bool(said.get("train_samples"))
    unit = "samples" if by_samples else "iters"
    return {
        "learning_rate": said["lr"],
        "min_learning_rate": said["min_lr"],
        "initial_learning_rate": said["lr_warmup_init"],
        "warmup": said[f"lr_warmup_{unit}"],
        "decay": said[f"lr_decay_{unit}"],
        "decay_style": said["lr_decay_style"].lower(),
        "betas": (said["adam_beta1"], said["adam_beta2"]),
        "epsilon": said["adam_eps"],
        "weight_decay": said["weight_decay"],
        "clip_grad": said["clip_grad"],
    }


def _numerics(said: Said) -> Said:
    aware = said.get("use_precision_aware_optimizer")
    return {
        "gradients": "bf16" if said.get("grad_reduce_in_bf16") else "fp32",
        "optimizer_gradients": said["main_grads_dtype"] if aware else "fp32",
        "master_parameters": said["main_params_dtype"] if aware else "fp32",
        "first_moment": said["exp_avg_dtype"] if aware else "fp32",
        "second_moment": said["exp_avg_sq_dtype"] if aware else "fp32",
        "narrow_parameters": bool(said.get("fp8_param_gather")),
    }


def _data(said: Said) -> tuple[Any, ...] | None:
    if said.get("mock_data"):
        return None
    words = said["data_path"]
    pairs = [(1.0, words[0])] if len(words) == 1 else [*zip(words[::2], words[1::2], strict=True)]
    return ([(path, float(weight)) for weight, path in pairs], said["split"])


def meant(plan: Plan) -> Said:
    """Return the same of a plan: what `read` must give for its command."""
    run, model, layout, training = plan.run, plan.run.model, plan.layout, plan.run.training
    moe, mla, data = model.moe, model.mla, run.spec.data
    plain = {
        name: getattr(model, name)
        for name in (
            *("num_layers", "hidden_size", "ffn_hidden_size", "num_attention_heads"),
            *("head_dim", "vocab_size", "gated_mlp", "normalization", "norm_epsilon"),
            *("tied_embeddings", "linear_bias", "qk_norm", "init_std", "mtp_num_layers"),
        )
    }
    marks = ",".join(str(int(model.is_moe_layer(i))) for i in range(model.num_layers))
    return {
        "model": {
            **plain,
            "num_query_groups": model.num_attention_heads if mla else model.num_query_groups,
            "moe": moe
            and (
                *(moe.num_experts, moe.router_topk, moe.moe_ffn_hidden_size),
                *(moe.shared_expert_intermediate_size, moe.score_function, f"[{marks}]"),
            ),
            "mla": mla
            and (
                *(mla.q_lora_rank, mla.kv_lora_rank, mla.qk_nope_head_dim, mla.qk_rope_head_dim),
                mla.v_head_dim,
            ),
        },
        "layout": _meant_layout(plan),
        "training": _meant_training(plan),
        "optimizer": _meant_optimizer(plan),
        "numerics": training.numerics.model_dump(),
        "data": data and ([(s.prefix, s.weight) for s in data.sources()], data.split),
        "checkpoint": run.spec.checkpoint and run.spec.checkpoint.interval_steps,
        "logging": (run.spec.logging.interval_steps, run.spec.logging.tensorboard_dir),
    } | {"layout": _meant_layout(plan) | {"etp": layout.etp if moe else None}}


def _meant_layout(plan: Plan) -> Said:
    layout, recompute = plan.layout, plan.layout.recompute
    parts = {"none": (), "selective": recompute.modules, "full": (recompute.layers,)}
    names = ("tp", "pp", "cp", "ep", "micro_batch_size", "zero_stage", "zero_replicas")
    fsdp = layout.zero_stage > 1
    return {
        **{name: getattr(layout, name) for name in names},
        "vpp": 1 if layout.stage_layout else layout.vpp,
        "sequence_parallel": layout.sequence_parallel and layout.tp > 1,
        "hides_dp": OverlapAxis.DP in layout.overlap or fsdp,
        "cp_comm_type": (layout.cp_comm_type or "p2p") if layout.cp > 1 else None,
        "stage_layout": layout.stage_layout,
        "recompute": (recompute.granularity.value, *parts[recompute.granularity.value]),
    }


def _meant_training(plan: Plan) -> Said:
    training, steps = plan.run.training, plan.run.steps
    ramp, evaluation = training.batch_ramp, training.evaluation
    fp8 = training.precision == "fp8"
    return {
        "sequence_length": training.sequence_length,
        "phases": [(p.from_samples, p.global_batch_size) for p in ramp]
        or [(0, training.global_batch_size)],
        "length": _counted(plan, steps),
        "precision": training.precision.value,
        "fp8_recipe": (training.fp8_recipe or "tensorwise") if fp8 else None,
        "seed": training.seed,
        "vocab_padding_multiple": training.vocab_padding_multiple,
        "dropout": (training.hidden_dropout, training.attention_dropout),
        "evaluation": evaluation and (evaluation.interval_steps, evaluation.steps),
    }


def _meant_optimizer(plan: Plan) -> Said:
    optimizer, steps = plan.run.training.optimizer, plan.run.steps
    names = ("learning_rate", "min_learning_rate", "initial_learning_rate", "epsilon")
    return {
        **{name: getattr(optimizer, name) for name in (*names, "weight_decay", "clip_grad")},
        "warmup": _counted(plan, optimizer.warmup_steps_of(steps)),
        "decay": _counted(plan, optimizer.decay_steps_of(steps)),
        "decay_style": optimizer.decay_style.value,
        "betas": (optimizer.beta1, optimizer.beta2),
    }


def _counted(plan: Plan, steps: int) -> int:
    """Return steps, or with a ramp the samples that they consume, added up one step a time."""
    ramp = plan.run.training.batch_ramp
    if not ramp:
        return steps
    first, last = ramp[0].global_batch_size, ramp[-1].global_batch_size
    small = -(-(ramp[1].from_samples or 0) // first)
    return min(steps, small) * first + max(0, steps - small) * last
