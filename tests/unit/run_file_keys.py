"""Every key of a run file with a value that is not its default: what tests of engines ask about."""

import copy
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from orchestrator.specs.run import RunSpec

Document = dict[str, Any]

MODEL: Document = {
    "name": "small",
    "num_layers": 8,
    "hidden_size": 512,
    "ffn_hidden_size": 2048,
    "num_attention_heads": 8,
    "num_query_groups": 4,
    "head_dim": 64,
    "vocab_size": 32000,
    "max_sequence_length": 4096,
    "gated_mlp": True,
    "activation": "silu",
    "normalization": "RMSNorm",
    "position_embedding": "rope",
    "rotary_base": 10000,
    "tied_embeddings": False,
    "qkv_bias": False,
    "linear_bias": False,
}
BASE: Document = {
    "schema": 1,
    "name": "r",
    "model": MODEL,
    "cluster": {"card": "dgx-h100", "hosts": 1},
    "training": {"sequence_length": 1024, "global_batch_size": 64, "steps": 1000},
    "layout": {"tp": 2, "pp": 2, "sequence_parallel": True, "overlap": ["dp"]},
    "engine": {},
    "data": {"prefix": "/d/text", "split": "99,1,0"},
    "checkpoint": {"interval_steps": 100},
}

_MOE = {"num_experts": 8, "router_topk": 2, "moe_ffn_hidden_size": 1024}
_MLA = {
    "kv_lora_rank": 64,
    "qk_nope_head_dim": 64,
    "qk_rope_head_dim": 32,
    "v_head_dim": 64,
}
_EXPERTS = {"model.moe": _MOE, "layout.etp": 1}
_GROUPED = {"model.moe": {**_MOE, "num_groups": 4, "group_topk": 2}, "layout.etp": 1}
_LATENT = {"model.mla": _MLA, "model.num_query_groups": 8}
_WINDOW = {"model.window": {"size": 128, "layer_pattern": "[1,0]"}}
_FULL = {"layout.recompute": {"granularity": "full"}}
_WSD = {"training.optimizer": {"decay_style": "wsd", "wsd_decay_steps": 100}}
_FP8 = {"training.precision": "fp8", "training.fp8_recipe": "tensorwise"}
_EVALUATED = {"training.evaluation": {"interval_steps": 100}}
_INTERLEAVED = {"layout.vpp": 2, "layout.overlap": ["dp", "pp"]}
_MANY_HOSTS = {"cluster.hosts": 2}
_NO_PIPELINE = {"layout.tp": 1, "layout.pp": 1, "layout.sequence_parallel": False}
_LOWER_START = {"training.optimizer": {"learning_rate": 1e-3}}
_YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096}
_RAMP = [
    {"from_samples": 0, "global_batch_size": 32},
    {"from_samples": 3200, "global_batch_size": 64},
]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A value of a key that says something else than the run file without it.

    `given` are other keys that both run files have, which this one needs.
    """

    key: str
    value: Any
    given: dict[str, Any] = field(default_factory=dict)
    also: dict[str, Any] = field(default_factory=dict)

    @property
    def before(self) -> Document:
        """Return the run file without the value."""
        return changed(BASE, self.given)

    @property
    def after(self) -> Document:
        """Return the run file with it, and with what must change at once."""
        return changed(self.before, {self.key: self.value, **self.also})


def changed(document: Document, values: dict[str, Any]) -> Document:
    """Return a copy with other values; None takes a key out."""
    new = copy.deepcopy(document)
    for key, value in values.items():
        place: Any = new
        *parents, last = key.split(".")
        for part in parents:
            place = place.setdefault(part, {})
        if value is None:
            place.pop(last, None)
        else:
            place[last] = copy.deepcopy(value)
    return new


def keys() -> tuple[str, ...]:
    """Return every key of a run file, as the schema has them."""
    return tuple(_leaves(RunSpec, ""))


def _leaves(model: type[BaseModel], before: str) -> Iterator[str]:
    for name, of in model.model_fields.items():
        inner = _sections(of.annotation)
        is_list = "tuple" in str(of.annotation)
        if inner and not is_list and name not in CARDS:
            yield from _leaves(inner[-1], f"{before}{name}.")
        else:
            yield f"{before}{name}"


def _sections(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [one for part in typing.get_args(annotation) for one in _sections(part)]


CARDS = ("card",)
"""Keys that name a card of figures about hardware; what ranks get of it is the environment."""

ABOUT = {
    *("schema_version", "engine.name", "engine.version"),
    *(f"model.{name}" for name in ("name", "source", "retrieved", "confidence", "unverified")),
    *("model.notes", "model.family"),
    *(f"model.published.{n}" for n in ("parameters_b", "active_parameters_b", "includes")),
    *(f"model.published.{n}" for n in ("active_leaves_out", "checkpoint_parameters")),
    *(f"model.reference_training.{n}" for n in ("sequence_length", "global_batch_size")),
    *("model.reference_training.tokens", "model.reference_training.source"),
}
"""What a run file says of itself and of where figures come from; nothing runs by it."""


def _sample(key: str, value: Any, given: dict[str, Any] | None = None, **also: Any) -> Sample:
    return Sample(key=key, value=value, given=given or {}, also=also.get("also", {}))


SAMPLES = (
    _sample("name", "another"),
    _sample("model.num_layers", 16),
    _sample("model.hidden_size", 1024),
    _sample("model.ffn_hidden_size", 1024),
    _sample("model.num_attention_heads", 16, also={"model.head_dim": 32}),
    _sample("model.num_query_groups", 2),
    _sample("model.head_dim", 128),
    _sample("model.vocab_size", 50000),
    _sample("model.max_sequence_length", 8192, {"model.position_embedding": "learned_absolute"}),
    _sample("model.gated_mlp", value=False, also={"model.activation": "gelu"}),
    _sample("model.activation", "gelu", {"model.gated_mlp": False, "model.activation": "silu"}),
    _sample("model.normalization", "LayerNorm"),
    _sample("model.norm_epsilon", 1e-6),
    _sample("model.layernorm_zero_centered_gamma", value=True),
    _sample("model.post_norms", value=True),
    _sample("model.parallel_attention", value=True),
    _sample("model.position_embedding", "learned_absolute"),
    _sample("model.rotary_base", 500000),
    _sample("model.rotary_base_local", 500),
    _sample("model.rotary_percent", 0.5),
    _sample("model.rope_scaling", _YARN),
    _sample("model.nope_layer_interval", 4),
    _sample("model.window.size", 256, _WINDOW),
    _sample("model.window.kind", "chunked", _WINDOW),
    _sample("model.window.layer_pattern", "[1]", _WINDOW),
    _sample("model.attention_sinks", value=True),
    _sample("model.attention_logit_softcap", 50.0),
    _sample("model.final_logit_softcap", 30.0),
    _sample("model.tied_embeddings", value=True),
    _sample("model.qkv_bias", value=True),
    _sample("model.linear_bias", value=True),
    _sample("model.qk_norm", value=True),
    _sample("model.qk_l2_norm", value=True),
    _sample("model.activation_clamp", 7.0),
    _sample("model.glu_linear_offset", 1.0),
    _sample("model.init_std", 0.01),
    _sample("model.mtp_num_layers", 1),
    _sample("model.moe.num_experts", 16, _EXPERTS),
    _sample("model.moe.router_topk", 4, _EXPERTS),
    _sample("model.moe.moe_ffn_hidden_size", 512, _EXPERTS),
    _sample("model.moe.shared_expert_intermediate_size", 512, _EXPERTS),
    _sample("model.moe.layer_pattern", "[0]*1+[1]*7", _EXPERTS),
    _sample("model.moe.router_dtype", "bf16", _EXPERTS),
    _sample("model.moe.score_function", "sigmoid", _EXPERTS),
    _sample("model.moe.aux_loss_coeff", 0.01, _EXPERTS),
    _sample("model.moe.load_balancing", "seq_aux_loss", _EXPERTS),
    _sample(
        "model.moe.expert_bias",
        value=True,
        given={**_EXPERTS, "model.moe.score_function": "sigmoid"},
    ),
    _sample(
        "model.moe.expert_bias_update_rate",
        0.01,
        {**_EXPERTS, "model.moe.score_function": "sigmoid", "model.moe.expert_bias": True},
    ),
    _sample("model.moe.num_groups", 2, _GROUPED),
    _sample("model.moe.group_topk", 1, _GROUPED),
    _sample("model.moe.topk_scaling_factor", 2.5, _EXPERTS),
    _sample(
        "model.moe.apply_probs_on_input", value=True, given={**_EXPERTS, "model.moe.router_topk": 1}
    ),
    _sample("model.mla.q_lora_rank", 64, _LATENT),
    _sample("model.mla.kv_lora_rank", 128, _LATENT),
    _sample("model.mla.qk_nope_head_dim", 128, _LATENT),
    _sample("model.mla.qk_rope_head_dim", 64, _LATENT),
    _sample("model.mla.v_head_dim", 128, _LATENT),
    _sample("cluster.card", "p5.48xlarge"),
    _sample("cluster.hosts", 2),
    _sample("cluster.gpus", 16, also={"cluster.hosts": None}),
    _sample("cluster.spares", 1),
    _sample("training.sequence_length", 2048),
    _sample("training.global_batch_size", 128),
    _sample("training.batch_ramp", _RAMP),
    _sample("training.steps", 2000),
    _sample("training.tokens", 200_000_000, also={"training.steps": None}),
    _sample("training.precision", "fp8"),
    _sample("training.fp8_recipe", "delayed", _FP8),
    _sample("training.seed", 7),
    _sample("training.vocab_padding_multiple", 256),
    _sample("training.hidden_dropout", 0.1),
    _sample("training.attention_dropout", 0.1),
    _sample("training.optimizer.learning_rate", 1e-3),
    _sample("training.optimizer.min_learning_rate", 1e-6),
    _sample("training.optimizer.initial_learning_rate", 1e-6),
    _sample("training.optimizer.warmup_steps", 10),
    _sample("training.optimizer.warmup_fraction", 0.01),
    _sample("training.optimizer.decay_steps", 900),
    _sample("training.optimizer.decay_style", "linear"),
    _sample("training.optimizer.wsd_decay_steps", 200, _WSD),
    _sample("training.optimizer.wsd_decay_style", "linear", _WSD),
    _sample("training.optimizer.beta1", 0.8),
    _sample("training.optimizer.beta2", 0.99),
    _sample("training.optimizer.epsilon", 1e-7),
    _sample("training.optimizer.weight_decay", 0.05),
    _sample("training.optimizer.clip_grad", 0.5),
    _sample("training.numerics.gradients", "bf16"),
    _sample(
        "training.numerics.optimizer_gradients",
        "bf16",
        also={"training.numerics.gradients": "bf16"},
    ),
    _sample("training.numerics.master_parameters", "fp16"),
    _sample("training.numerics.first_moment", "bf16"),
    _sample("training.numerics.second_moment", "fp8"),
    _sample("training.numerics.narrow_parameters", value=True, given=_FP8),
    _sample("training.evaluation.interval_steps", 50, _EVALUATED),
    _sample("training.evaluation.steps", 3, _EVALUATED),
    _sample("layout.tp", 4),
    _sample("layout.pp", 4),
    _sample("layout.cp", 2),
    _sample("layout.ep", 2, _EXPERTS),
    _sample("layout.etp", 2, _EXPERTS),
    _sample("layout.vpp", 2, {"layout.overlap": ["dp", "pp"], "layout.pp": 4, **_MANY_HOSTS}),
    _sample("layout.microbatch_group_size", 4, _INTERLEAVED),
    _sample("layout.micro_batch_size", 2),
    _sample("layout.zero_stage", 0, also={"layout.overlap": []}),
    _sample("layout.zero_replicas", 2, _NO_PIPELINE),
    _sample("layout.overlap", ["dp", "tp"]),
    _sample("layout.cp_comm_type", "a2a", {"layout.cp": 2}),
    _sample("layout.sequence_parallel", value=False),
    _sample("layout.recompute.granularity", "full"),
    _sample(
        "layout.recompute.modules", ["mlp"], also={"layout.recompute.granularity": "selective"}
    ),
    _sample("layout.recompute.layers", 1, _FULL),
    _sample("layout.schedule", "gpipe"),
    _sample("layout.stage_layout", "Ett|ttttttL"),
    _sample("engine.checkout", "/opt/other"),
    _sample("engine.arguments", ["--log-params-norm"]),
    _sample("engine.script", "/opt/other.py"),
    _sample("engine.config", {"dump_state": True}),
    _sample("layout.offload", "optimizer"),
    _sample("engine.hooks.stragglers", value=True),
    _sample("engine.hooks.fault_tolerance", value=True),
    _sample("data.prefix", "/d/other"),
    _sample(
        "data.blend",
        [{"prefix": "/d/a", "weight": 3.0}, {"prefix": "/d/b", "weight": 1.0}],
        also={"data.prefix": None},
    ),
    _sample("data.split", "98,2,0"),
    _sample("data.seed", 5),
    _sample("data.cache_dir", "/d/cache"),
    _sample("data.end_of_document", 100),
    _sample("data.corpus.source", "python-stdlib"),
    _sample("data.corpus.limit_bytes", 1000, {"data.corpus": {"source": "python-stdlib"}}),
    _sample("checkpoint.interval_steps", 50),
    _sample("checkpoint.keep", 5),
    _sample("logging.interval_steps", 10),
    _sample("logging.tensorboard_dir", "/d/events"),
    _sample("launch.via", "ssh"),
    _sample("launch.starter", "torchrun"),
    _sample("launch.start", "cold"),
    _sample("launch.folder", "elsewhere"),
    _sample("launch.controller_port", 4000),
    _sample("launch.rendezvous_port", 4001),
    _sample("launch.binding", "cores"),
    _sample("launch.logs.folder", "/var/log/runs"),
    _sample("launch.logs.limit_bytes", 1 << 20),
    _sample("launch.logs.keep", 1),
    _sample("launch.hostfile", "/etc/hosts.txt"),
    _sample("launch.controller_host", "head"),
    _sample("launch.interface", "eth1"),
    _sample("launch.working_folder", "/home/me"),
    _sample("launch.venv", "/opt/venv"),
    _sample("launch.ssh.user", "me"),
    _sample("launch.ssh.port", 2222),
    _sample("launch.ssh.identity_file", "/k"),
    _sample("launch.ssh.config_file", "/c"),
    _sample("launch.ssh.options", {"Compression": "yes"}),
    _sample("launch.ssh.parallel", 8),
    _sample("launch.preflight.timeout_s", 9.0),
    _sample("launch.preflight.clock_skew_s", 9.0),
    _sample("launch.preflight.free_disk_gib", 9.0),
    _sample("launch.preflight.gpu_used_gib", 9.0),
    _sample("supervise.max_restarts", 9),
    _sample("supervise.join_timeout_s", 9.0),
    _sample("supervise.beat_interval_s", 9.0),
    _sample("supervise.lease_s", 9.0),
    _sample("supervise.stop_grace_s", 9.0),
    _sample("supervise.hang.floor_s", 9.0),
    _sample("supervise.hang.ceiling_s", 900.0),
    _sample("supervise.hang.phase_s", 2000.0),
    _sample("supervise.budgets.program", 1),
    _sample("supervise.budgets.killed", 1),
    _sample("supervise.budgets.hang", 1),
    _sample("supervise.budgets.host", 1),
    _sample("supervise.budgets.checkpoint", 1),
    _sample("supervise.budgets.forgiven_after_s", 60.0),
)
"""One for each key but those of `ABOUT` and `ONE_VALUE`."""

ONE_VALUE: set[str] = set()
"""Keys with a single possible value: nothing else can be said."""
