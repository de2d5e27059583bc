"""The join of `cost`, which knows what ranks send, and `topology`, which knows over which links."""

from dataclasses import dataclass

from orchestrator.cost.collective import Axis, Collective, Kind
from orchestrator.cost.traffic import traffic_of, uncounted
from orchestrator.records.plan import Plan
from orchestrator.topology.groups import GroupKind
from orchestrator.topology.links import Pattern, Traffic

_KINDS = {
    Axis.TP: GroupKind.TP,
    Axis.CP: GroupKind.CP,
    Axis.EP: GroupKind.EP,
    Axis.ETP: GroupKind.EXPERT_TP,
    Axis.EXPERT_MODEL: GroupKind.EXPERT_TP_EP,
    Axis.PP: GroupKind.PP,
    Axis.DP: GroupKind.DP_CP,
    Axis.EXPERT_DP: GroupKind.EXPERT_DP,
    Axis.EMBEDDING: GroupKind.EMBEDDING,
    Axis.TP_CP: GroupKind.TP_CP,
    Axis.TP_DP: GroupKind.TP_DP_CP,
    Axis.MODEL: GroupKind.MODEL,
    Axis.EXPERT_MODEL_PP: GroupKind.EXPERT_MODEL,
    Axis.WORLD: GroupKind.WORLD,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What the ranks of a plan send in a step; `missing` says why it is not known."""

    traffic: tuple[Traffic, ...]
    missing: tuple[str, ...] = ()


def counted(plan: Plan) -> Counted:
    """Return what each rank of a plan sends in one step, by group and by whom it reaches."""
    missing = uncounted(plan.run, plan.layout)
    if missing:
        return Counted(traffic=(), missing=missing)
    pp = plan.layout.pp
    sent: dict[tuple[GroupKind, Pattern], list[float]] = {}
    for pp_rank in range(pp):
        for one in traffic_of(plan.run, plan.layout, pp_rank=pp_rank).collectives:
            by_stage = sent.setdefault((_KINDS[one.axis], _pattern(one)), [0.0] * pp)
            by_stage[pp_rank] += one.sent_bytes
    return Counted(
        traffic=tuple(
            Traffic(kind=kind, pattern=pattern, sent_bytes=tuple(by_stage))
            for (kind, pattern), by_stage in sorted(sent.items(), key=_place)
            if any(by_stage)
        )
    )


def _place(one: tuple[tuple[GroupKind, Pattern], list[float]]) -> tuple[int, int]:
    (kind, pattern), _ = one
    return list(GroupKind).index(kind), list(Pattern).index(pattern)


def _pattern(one: Collective) -> Pattern:
    if one.kind is Kind.ALL_TO_ALL:
        return Pattern.ALL
    if one.offset is not None:
        return Pattern.NEXT if one.offset > 0 else Pattern.PREVIOUS
    return Pattern.RING
