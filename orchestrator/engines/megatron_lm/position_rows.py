"""What `pretrain_gpt.py` is told of positions: learned, rotary, and how rotary ones are stretched.

Llama 3's scaling has its own switch, with the other three numbers fixed in Megatron (low 1, high 4,
8192 positions); a card with others is refused. YaRN is `--rope-type` with latent attention, and
`--position-embedding-type yarn` without, which can be configured from 0.19 on.
"""

from orchestrator.engines.megatron_lm.model_rows import layer_list
from orchestrator.engines.megatron_lm.row import Job, Row, Section, Value

LLAMA3_FIXED = {
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192.0,
}
"""What `RotaryEmbedding._apply_scaling` has as constants."""


YARN_FIXED = {
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "original_max_position_embeddings": 4096.0,
}
"""What latent attention's YaRN keeps where no option reaches (`MLATransformerConfig`)."""

_OF_YARN = ("factor", "mscale", "mscale_all_dim")
SCALING_KEYS = {
    "llama3": ("type", "factor", *LLAMA3_FIXED),
    "yarn": ("type", *_OF_YARN, *YARN_FIXED),
}
"""Every number of a card's `rope_scaling` that is rendered, or held against a constant."""


def scaling(job: Job, name: str) -> Value:
    """Return a number of the card's rotary scaling, None where it is not given."""
    value = (job.model.rope_scaling or {}).get(name)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def scaling_type(job: Job) -> str | None:
    """Return the kind of rotary scaling, None without one."""
    kind = (job.model.rope_scaling or {}).get("type")
    return None if kind is None else str(kind)


def _is_llama3(job: Job) -> bool:
    return scaling_type(job) == "llama3"


def _is_yarn(job: Job) -> bool:
    return scaling_type(job) == "yarn"


def _kind(job: Job) -> str:
    plain_yarn = _is_yarn(job) and job.model.mla is None
    return "yarn" if plain_yarn else job.model.position_embedding


def _without_rope(job: Job) -> Value:
    interval = job.model.nope_layer_interval
    if interval is None:
        return None
    return layer_list(job, lambda layer: (layer + 1) % interval == 0)


POSITIONS = Section(
    title="Positions",
    rows=(
        Row(
            flag="--position-embedding-type",
            value=_kind,
            why="the default is learned_absolute",
        ),
        Row(
            flag="--seq-length",
            value=lambda j: j.training.sequence_length,
            why="tokens of a sample",
        ),
        Row(
            flag="--max-position-embeddings",
            value=lambda j: max(j.training.sequence_length, _learned(j)),
            why="at least the sequence; with learned positions it is a shape of the model",
        ),
        Row(flag="--rotary-base", value=lambda j: j.model.rotary_base, why="the default is 10000"),
        Row(
            flag="--rotary-percent",
            value=lambda j: j.model.rotary_percent if j.model.rotary_percent < 1 else None,
            why="share of a head that is rotated",
        ),
        Row(flag="--use-rope-scaling", value=_is_llama3, why="Llama 3's stretched frequencies"),
        Row(
            flag="--rope-scaling-factor",
            value=lambda j: scaling(j, "factor") if _is_llama3(j) else None,
            why="how far they are stretched; 8 for Llama 3.1, 32 for small Llama 3.2",
        ),
        Row(
            flag="--no-rope-freq",
            value=_without_rope,
            why="1 marks the layers without positions",
        ),
    ),
)


def _learned(job: Job) -> int:
    learned = job.model.position_embedding == "learned_absolute"
    return job.model.max_sequence_length if learned else 0


YARN = Section(
    title="YaRN",
    applies=_is_yarn,
    rows=(
        Row(
            flag="--rope-type",
            value=lambda j: "yarn" if j.model.mla else None,
            why="latent attention reads the kind here",
        ),
        Row(
            flag="--rotary-scaling-factor",
            value=lambda j: scaling(j, "factor"),
            why="how far positions are stretched",
        ),
        Row(
            flag="--mscale",
            value=lambda j: scaling(j, "mscale") or 1.0,
            why="scale of attention; Megatron's default is 1",
        ),
        Row(
            flag="--mscale-all-dim",
            value=lambda j: scaling(j, "mscale_all_dim") or 0.0,
            why="the same for all dims; Megatron's default is 0",
        ),
    ),
)

LATENT_WITHOUT_YARN = Section(
    title="Positions of latent attention",
    applies=lambda j: j.model.mla is not None and not _is_yarn(j),
    rows=(
        Row(flag="--rope-type", value=lambda _: "rope", why="the default is yarn, stretched 40 x"),
        Row(
            flag="--rotary-scaling-factor",
            value=lambda _: 1.0,
            why="40 is the default, and scales attention whatever the type",
        ),
        Row(
            flag="--no-rope-fusion",
            value=lambda _: True,
            why="the fused kernel of latent attention knows YaRN alone",
        ),
    ),
)

PLAIN_YARN = Section(
    title="YaRN without latent attention",
    applies=lambda j: _is_yarn(j) and j.model.mla is None,
    rows=(
        Row(
            flag="--yarn-original-max-position-embeddings",
            value=lambda j: scaling(j, "original_max_position_embeddings"),
            why="positions before stretching",
        ),
        Row(
            flag="--yarn-beta-fast",
            value=lambda j: scaling(j, "beta_fast"),
            why="rotations above which nothing is stretched",
        ),
        Row(
            flag="--yarn-beta-slow",
            value=lambda j: scaling(j, "beta_slow"),
            why="rotations below which everything is",
        ),
    ),
)
"""Options of 0.19 and later; before, these numbers cannot be given."""
