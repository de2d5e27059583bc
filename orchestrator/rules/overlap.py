"""Rules on what runs side by side: overlapped communication, and combined 1F1B."""

from orchestrator.records.layout import Layout
from orchestrator.rules.change import Change, change, changes, divisors, nearby
from orchestrator.rules.rule import (
    MEGATRON,
    PASS,
    Breach,
    Breaches,
    Rule,
    Source,
    Subject,
    megatron_arguments,
    megatron_core,
)
from orchestrator.specs.choices import (
    OverlapAxis,
    Precision,
    RecomputeGranularity,
    ScheduleKind,
)


def _one_chunk_overlap(subject: Subject) -> Breaches:
    layout = subject.layout
    if layout.schedule is not ScheduleKind.ONE_F_ONE_B or OverlapAxis.PP not in layout.overlap:
        return PASS
    return (Breach(key="layout.overlap", passing=(_overlap(layout, without=OverlapAxis.PP),)),)


def _two_rank_overlap(subject: Subject) -> Breaches:
    layout = subject.layout
    if layout.schedule is not ScheduleKind.INTERLEAVED or layout.pp != 2:  # noqa: PLR2004
        return PASS
    if OverlapAxis.PP in layout.overlap:
        return PASS
    # With two ranks both neighbours are the same rank, and Megatron's batched sends and receives
    # between the pair get mixed: training runs on wrong activations, silently.
    return (Breach(key="layout.overlap", passing=(_overlap(layout, also=OverlapAxis.PP),)),)


def _tp_overlap(subject: Subject) -> Breaches:
    layout = subject.layout
    if OverlapAxis.TP not in layout.overlap or layout.sequence_parallel:
        return PASS
    passing = [_overlap(layout, without=OverlapAxis.TP)]
    if layout.tp > 1:
        passing.append(change("layout.sequence_parallel", value=True))
    return (Breach(key="layout.overlap", said={"tp": layout.tp}, passing=passing),)


def _overlap(
    layout: Layout, *, without: OverlapAxis | None = None, also: OverlapAxis | None = None
) -> Change:
    axes = {*layout.overlap, *((also,) if also else ())} - {without}
    return change("layout.overlap", tuple(sorted(axis.value for axis in axes if axis)))


def _combined(subject: Subject) -> bool:
    return subject.layout.schedule is ScheduleKind.COMBINED


def _combined_experts(subject: Subject) -> Breaches:
    layout, moe = subject.layout, subject.run.model.moe
    if not _combined(subject) or (moe is not None and layout.ep > 1):
        return PASS
    eps = nearby(divisors(moe.num_experts), near=2, fits=lambda d: d > 1) if moe else ()
    instead = (ScheduleKind.INTERLEAVED if layout.vpp > 1 else ScheduleKind.ONE_F_ONE_B).value
    passing = (change("layout.schedule", instead), *changes("layout.ep", (2, *eps) if moe else ()))
    return (Breach(key="layout.schedule", said={"ep": layout.ep}, passing=passing),)


def _combined_recompute(subject: Subject) -> Breaches:
    recompute = subject.layout.recompute
    if not _combined(subject) or recompute.granularity is not RecomputeGranularity.FULL:
        return PASS
    passing = (change("layout.recompute", None),)
    return (Breach(key="layout.recompute.granularity", passing=passing),)


def _combined_recompute_moe(subject: Subject) -> Breaches:
    modules = subject.layout.recompute.modules
    if not _combined(subject) or "moe" not in modules:
        return PASS
    others = tuple(name for name in modules if name != "moe") or ("moe_act",)
    passing = changes("layout.recompute.modules", (others,))
    return (Breach(key="layout.recompute.modules", passing=passing),)


def _combined_precision(subject: Subject) -> Breaches:
    precision = subject.run.training.precision
    if not _combined(subject) or precision is not Precision.FP32:
        return PASS
    passing = changes("training.precision", (Precision.BF16.value,))
    return (Breach(key="training.precision", said={"precision": precision}, passing=passing),)


def _combined_mtp(subject: Subject) -> Breaches:
    depths = subject.run.model.mtp_num_layers
    if not _combined(subject) or depths <= 1:
        return PASS
    passing = changes("model.mtp_num_layers", (0, 1))
    return (Breach(key="model.mtp_num_layers", said={"depths": depths}, passing=passing),)


_CONFIG = "transformer/transformer_config.py"

RULES = (
    Rule(
        id="overlap-one-chunk",
        condition="1F1B does not overlap pipeline communication",
        message="1f1b cannot overlap pipeline communication in Megatron-Core (validate_args turns "
        "it off silently)",
        source=megatron_arguments(585, "args.overlap_p2p_comm = False"),
        since="0.9",
        check=_one_chunk_overlap,
    ),
    Rule(
        id="overlap-two-ranks",
        condition="interleaving over two ranks overlaps pipeline communication",
        message="interleaved-1f1b with pp 2 needs overlapped pipeline communication: batched "
        "messages between the same two ranks get mixed, and training is silently wrong",
        source=megatron_arguments(581, "p2p sends and recvs between same 2 ranks"),
        since="0.9",
        check=_two_rank_overlap,
    ),
    Rule(
        id="overlap-tp",
        condition="overlapping tensor parallel communication needs sequence parallelism",
        message="tp is overlapped with matrix products only with sequence_parallel: true "
        "(tp is {tp})",
        source=megatron_arguments(916, "Tensor parallel communication/GEMM overlap can happen"),
        since="0.9",
        families=MEGATRON,
        check=_tp_overlap,
    ),
    Rule(
        id="combined-experts",
        condition="combined 1F1B hides the exchange between experts: ep above 1",
        message="combined-1f1b overlaps expert communication, and ep is {ep}",
        source=megatron_core(_CONFIG, 1865, "is only supported with expert model parallelism"),
        since="0.14",
        families=MEGATRON,
        check=_combined_experts,
    ),
    Rule(
        id="combined-recompute",
        condition="combined 1F1B does not recompute whole layers",
        message="full, but combined-1f1b runs parts of layers side by side",
        source=megatron_core(_CONFIG, 1873, "disable full recomputation when enabling overlap_moe"),
        since="0.14",
        families=MEGATRON,
        check=_combined_recompute,
    ),
    Rule(
        id="combined-recompute-moe",
        condition="combined 1F1B does not recompute the experts as a whole",
        message="moe, but combined-1f1b runs its parts side by side with another microbatch's",
        source=Source(
            document="Megatron-LM core_v0.18.2 megatron/core/transformer/transformer_config.py",
            line=2428,
            words='"moe" not in self.recompute_modules',
        ),
        since="0.18",
        families=MEGATRON,
        check=_combined_recompute_moe,
    ),
    Rule(
        id="combined-precision",
        condition="combined 1F1B trains in BF16 or FP8",
        message="{precision}, but combined-1f1b needs a BF16 model",
        source=megatron_core(_CONFIG, 1884, "is only supported with bf16 or fp16 model"),
        since="0.14",
        families=MEGATRON,
        check=_combined_precision,
    ),
    Rule(
        id="combined-mtp",
        condition="combined 1F1B has at most one depth of multi-token prediction",
        message="{depths} depths, but combined-1f1b has at most one",
        source=megatron_core(_CONFIG, 1891, "MTP layernum only supports 1 when enabling"),
        since="0.14",
        families=MEGATRON,
        check=_combined_mtp,
    ),
)
