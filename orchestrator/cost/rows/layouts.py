"""Which layout a row ran: its degrees and switches, and what is taken where it is silent."""

import math
import re

from orchestrator.cost.parameters import total_parameters
from orchestrator.cost.rows.row import Row, refuse
from orchestrator.cost.shape import shape_of
from orchestrator.cost.software import MEGATRON, Software
from orchestrator.records.layout import Layout, Recompute
from orchestrator.schedules import stages
from orchestrator.schedules.stages import Stage, StageLayout
from orchestrator.specs.choices import OverlapAxis, RecomputeGranularity, ScheduleKind
from orchestrator.specs.model import ModelCard

SCHEDULES = {
    "1f1b": ScheduleKind.ONE_F_ONE_B,
    "interleaved-1f1b": ScheduleKind.INTERLEAVED,
    "1f1b-i": ScheduleKind.INTERLEAVED,
    "interleaved": ScheduleKind.INTERLEAVED,
    "gpipe": ScheduleKind.GPIPE,
    "zb-1p": ScheduleKind.ZERO_BUBBLE,
    "zb-2p": ScheduleKind.ZERO_BUBBLE,
    "zb-h1": ScheduleKind.ZERO_BUBBLE,
    "zb-v": ScheduleKind.ZB_V,
    "dualpipe": ScheduleKind.DUAL_PIPE_V,
    "dualpipe-v": ScheduleKind.DUAL_PIPE_V,
}

SHARDINGS = {
    "": 1,
    "distopt": 1,
    "zero1": 1,
    "zero-1": 1,
    "zero2": 2,
    "zero3": 3,
    "fsdp": 3,
    "hsdp": 3,
    "none": 0,
    "ddp": 0,
}

MODULES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("save_qkv_proj", ("core_attn", "mlp", "layernorm", "attn_out")),
    ("save_qkv_out_proj", ("core_attn", "mlp", "layernorm", "attn_out")),
    ("save_dot_except_mlpwi", ("mlp_in", "layernorm")),
    ("except_mlp", ("mlp", "layernorm")),
    ("core attention", ("core_attn",)),
    ("rmsnorm, mla", ("layernorm", "mla_up_proj")),
    ("(op)", ("core_attn", "layernorm", "mlp_act")),
    ("minimal_flash", ("layernorm",)),
)
"""Words of other frameworks' policies in Megatron's names of modules."""

KNOWN_MODULES = ("core_attn", "layernorm", "mla_up_proj", "mlp", "moe_act", "shared_experts", "moe")
ENDS = 2
"""Embedding and loss may stand alone on a stage each."""

MOST_EP = 64
"""Ranks that share experts with DeepEP at most, where it is not stated: what AutoModel's and
DeepSeek's own runs have."""

CHUNK_LAYERS = 2
"""Layers of a chunk where Megatron's interleaving is not stated: usual in its recipes; assumed."""

STATE_BYTES = 16.0
STATES_ROOM_BYTES = 26e9
"""Bytes of states for a parameter, and a third of an 80 GB accelerator: HSDP's usual room."""

_OVERLAPS_ON = re.compile(r"overlap[^;]* on\b")
_LAYERS = re.compile(r"full:\s*(\d+)")
_PIPELINE_LAYOUT = re.compile(r"pp_layout=([Etm|L*()\d,]+)")


def layout_of(row: Row, model: ModelCard, software: Software) -> Layout:
    """Return the layout of a row.

    Raises:
        Unreadable: the degrees do not multiply to the GPUs, or layers do not divide.
    """
    gpus = row.needed("gpus")
    tp, pp, cp = (_degree(row, axis) for axis in ("tp", "pp", "cp"))
    dp, rest = divmod(gpus, tp * pp * cp)
    if rest or dp == 0:
        refuse(f"tp {tp} x pp {pp} x cp {cp} does not divide {gpus} GPUs")
    stated = row.whole("dp")
    if stated is not None and stated != dp:
        refuse(f"dp {stated}, but {gpus} GPUs / (tp {tp} x pp {pp} x cp {cp}) is {dp}")
    schedule, vpp = _schedule(row, model, software, pp=pp)
    if pp * vpp > model.num_layers + ENDS:
        refuse(f"pp {pp} x vpp {vpp} stages are more than the {model.num_layers} layers and ends")
    ep, etp = _expert_degrees(row, model, per_stage=gpus // pp)
    sequence_parallel = _sequence_parallel(row, software, tp=tp)
    micro = _micro_batch(row, dp=dp)
    return Layout(
        tp=tp,
        pp=pp,
        cp=cp,
        dp=dp,
        ep=ep,
        etp=etp,
        vpp=vpp,
        microbatch_group_size=pp,
        micro_batch_size=micro,
        zero_stage=_zero_stage(row),
        zero_replicas=_replicas(row, model, ranks=dp * cp),
        overlap=_overlaps(row, software, tp=tp, vpp=vpp, sequence_parallel=sequence_parallel),
        sequence_parallel=sequence_parallel,
        recompute=_recompute(row),
        schedule=schedule,
        stage_layout=_stage_layout(row, model, num_stages=pp * vpp),
    )


def _degree(row: Row, axis: str) -> int:
    value = row.whole(axis)
    if value is None:
        row.assume(f"{axis} 1")
    return value or 1


def _schedule(
    row: Row, model: ModelCard, software: Software, *, pp: int
) -> tuple[ScheduleKind, int]:
    """Return the schedule and its chunks; an empty `vpp` does not mean 1."""
    if pp == 1:
        return ScheduleKind.NO_PIPELINE, 1
    word, vpp = row.text("schedule").lower(), row.whole("vpp")
    if word and word not in SCHEDULES:
        refuse(f"schedule '{word}' is not known")
    kind = SCHEDULES.get(word)
    if kind in {ScheduleKind.ZB_V, ScheduleKind.DUAL_PIPE_V}:
        return kind, 2
    if vpp is None:
        recipes = software.family == MEGATRON and "Megatron-LM" not in row.text("framework")
        plain = {None, ScheduleKind.ONE_F_ONE_B}
        interleaves = kind is ScheduleKind.INTERLEAVED or (recipes and kind in plain)
        vpp = max(1, round(model.num_layers / pp / CHUNK_LAYERS)) if interleaves else 1
        row.assume(f"vpp {vpp}")
    if kind is None:
        kind = ScheduleKind.INTERLEAVED if vpp > 1 else ScheduleKind.ONE_F_ONE_B
    if kind is ScheduleKind.ONE_F_ONE_B and vpp > 1:
        kind = ScheduleKind.INTERLEAVED
    return kind, vpp


def _expert_degrees(row: Row, model: ModelCard, *, per_stage: int) -> tuple[int, int]:
    if model.moe is None:
        return 1, 1
    ep, etp = row.whole("ep"), row.whole("etp") or 1
    if ep is None:
        deep = "deepep" in row.text("notes").lower()
        ep = math.gcd(math.gcd(per_stage // etp, model.moe.num_experts), MOST_EP) if deep else 1
        row.assume(f"ep {ep}")
    if per_stage % (ep * etp):
        refuse(f"ep {ep} x etp {etp} does not divide the {per_stage} ranks of a stage")
    if model.moe.num_experts % ep:
        refuse(f"ep {ep} does not divide {model.moe.num_experts} experts")
    return ep, etp


def _sequence_parallel(row: Row, software: Software, *, tp: int) -> bool:
    word = row.text("sequence_parallel").lower()
    if tp == 1:
        return False
    if not word:
        on = software.family in {MEGATRON, "torchtitan"}
        row.assume(f"sequence_parallel {'yes' if on else 'no'}")
        return on
    return word in {"yes", "true", "1", "on"}


def _micro_batch(row: Row, *, dp: int) -> int:
    micro, batch = row.whole("micro_batch"), row.needed("global_batch")
    if micro is None:
        micro = 1
        row.assume("micro_batch 1")
    if batch % (micro * dp):
        refuse(f"global_batch {batch} is not whole microbatches of {micro} on {dp} replicas")
    return micro


def _zero_stage(row: Row) -> int:
    word = row.text("sharding").lower()
    if not word:
        row.assume("sharding distopt")
    if word not in SHARDINGS:
        refuse(f"sharding '{word}' is not known")
    return SHARDINGS[word]


def _replicas(row: Row, model: ModelCard, *, ranks: int) -> int:
    """Return the copies of the shards with HSDP: as stated, else the most that leave room.

    A shard group not stated is taken as the smallest power of two of ranks on which states take
    a third of the memory.
    """
    if row.text("sharding").lower() != "hsdp":
        return 1
    copies = re.search(r"dp(\d+) x fsdp", row.text("notes"))
    shards = re.search(r"FSDP=(\d+)", row.text("notes"))
    if copies:
        replicas = int(copies[1])
    elif shards:
        replicas = ranks // int(shards[1])
    else:
        need = STATE_BYTES * total_parameters(shape_of(model)) / STATES_ROOM_BYTES
        group = min(ranks, max(8, 2 ** math.ceil(math.log2(need))))
        row.assume(f"shards over {group} ranks")
        replicas = ranks // group
    return replicas if replicas and ranks % replicas == 0 else 1


def _overlaps(
    row: Row, software: Software, *, tp: int, vpp: int, sequence_parallel: bool
) -> tuple[OverlapAxis, ...]:
    """Return what overlaps: gradients everywhere, products in Megatron unless it says off.

    Megatron-LM's parser has both off where nobody turns them on; NeMo's recipes turn them on.
    """
    notes = f"{row.text('notes')} {row.text('framework')}".lower()
    bare = row.text("framework").startswith("Megatron-LM") and not _OVERLAPS_ON.search(notes)
    if bare:
        row.assume("gradients and products do not overlap, Megatron-LM's defaults")
    off = "overlap deliberately off" in notes
    megatron = software.family in {MEGATRON, "megascale"}
    tp_off = off or bare or "tp comm overlap off" in notes or "no tp" in notes
    asynchronous = "asynctp" in notes.replace(" ", "").replace("-", "")
    wanted = {
        OverlapAxis.TP: tp > 1
        and sequence_parallel
        and ((megatron and not tp_off) or asynchronous),
        OverlapAxis.DP: software.family != "megatron-deepspeed" and not bare,
        OverlapAxis.PP: vpp > 1 and not off,
    }
    if wanted[OverlapAxis.TP] and "tp comm overlap on" not in notes and not asynchronous:
        row.assume("tp collectives overlap")
    return tuple(sorted(axis for axis, on in wanted.items() if on))


def _recompute(row: Row) -> Recompute:
    word = row.text("recompute").lower()
    if not word:
        row.assume("no recomputation")
        return Recompute()
    if word == "none":
        return Recompute()
    some = _LAYERS.match(word)
    if some:
        return Recompute(granularity=RecomputeGranularity.FULL, layers=int(some[1]))
    if word == "full":
        return Recompute(granularity=RecomputeGranularity.FULL)
    for policy, modules in MODULES:
        if policy in word:
            return Recompute(granularity=RecomputeGranularity.SELECTIVE, modules=modules)
    known = tuple(one for one in KNOWN_MODULES if one in re.split(r"[:+,\s]+", word))
    if not known:
        row.assume("selective recomputation of core_attn")
        known = ("core_attn",)
    return Recompute(granularity=RecomputeGranularity.SELECTIVE, modules=known)


def _stage_layout(row: Row, model: ModelCard, *, num_stages: int) -> str | None:
    """Return the row's own layout of stages, or the most even one that its layers allow."""
    layers, mtp = model.num_layers, model.mtp_num_layers
    stated = _PIPELINE_LAYOUT.search(row.text("notes"))
    if stated:
        text = stated[1].rstrip(",;|")
        try:
            parsed = stages.parse(text)
        except Exception:  # noqa: BLE001  a note is not a file: what it says is then not used
            parsed = None
        if parsed and parsed.num_layers == layers and parsed.num_stages == num_stages:
            return text
    embedding_apart = "embedding gets its own pipeline slot" in row.text("notes")
    ends_less = "first/last stage one layer fewer" in row.text("notes")
    if layers % num_stages == 0 and not embedding_apart and not ends_less:
        return None
    layout = (
        _with_prediction(layers, num_stages, mtp)
        if mtp
        else stages.accounted(layers, num_stages=num_stages)
    )
    layout = layout or _nearly_even(layers, num_stages, mtp)
    if layout is None:
        refuse(f"{layers} layers do not go on {num_stages} stages")
    return stages.text_of(layout)


def _with_prediction(layers: int, num_stages: int, mtp: int) -> StageLayout | None:
    """Return the layout of DeepSeek's recipes: prediction and loss in the place of layers.

    Loss and prediction take 2 places and 1, or 1 and 1 with the embedding in one as well
    (Megatron-Bridge: `Et*4|(t*4|)*14tmL`, `Et|(tt|)*30mL`).
    """
    for first, last in ((0, mtp + 2), (1, mtp + 1)):
        each, rest = divmod(layers + first + last, num_stages)
        if rest == 0 and each >= max(first, last):
            sizes = [each - first, *[each] * (num_stages - 2), each - last]
            return _stages(sizes, mtp)
    return None


def _nearly_even(layers: int, num_stages: int, mtp: int) -> StageLayout | None:
    """Return stages that differ by one layer at most, embedding and loss counted as layers."""
    each, more = divmod(layers + mtp + 2, num_stages)
    sizes = [each + (0 < stage <= more) for stage in range(num_stages)]
    sizes[0] -= 1
    sizes[-1] -= 1 + mtp
    if min(sizes) < 0:
        return None
    return _stages(sizes, mtp)


def _stages(sizes: list[int], mtp: int) -> StageLayout:
    last = len(sizes) - 1
    return StageLayout(
        stages=tuple(
            Stage(
                has_embedding=stage == 0,
                decoder_layers=size,
                mtp_layers=mtp if stage == last else 0,
                has_loss=stage == last,
            )
            for stage, size in enumerate(sizes)
        )
    )
