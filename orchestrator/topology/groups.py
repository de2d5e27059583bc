"""Every process group that Megatron makes, by name: which ranks are in it.

Names and members as in `megatron/core/parallel_state.py` 0.16.1, `initialize_model_parallel`.
"""

from enum import StrEnum

from orchestrator.records.layout import Layout
from orchestrator.topology.ranks import DEFAULT_ORDER, RankOrder, RankTable, rank_table


class GroupKind(StrEnum):
    """What a group is for."""

    TP = "tp"
    CP = "cp"
    DP = "dp"
    DP_CP = "dp-cp"
    PP = "pp"
    MODEL = "model"
    TP_CP = "tp-cp"
    TP_DP = "tp-dp"
    TP_DP_CP = "tp-dp-cp"
    EMBEDDING = "embedding"
    POSITION_EMBEDDING = "position-embedding"
    EP = "ep"
    EXPERT_TP = "expert-tp"
    EXPERT_TP_EP = "expert-tp-ep"
    EXPERT_MODEL = "expert-model"
    EXPERT_DP = "expert-dp"
    SHARD = "shard"
    EXPERT_SHARD = "expert-shard"
    REPLICA = "replica"
    WORLD = "world"


_AXES: dict[GroupKind, tuple[str, ...]] = {
    GroupKind.TP: ("tp",),
    GroupKind.CP: ("cp",),
    GroupKind.DP: ("dp",),
    GroupKind.DP_CP: ("dp", "cp"),
    GroupKind.PP: ("pp",),
    GroupKind.MODEL: ("tp", "pp"),
    GroupKind.TP_CP: ("tp", "cp"),
    GroupKind.TP_DP: ("tp", "dp"),
    GroupKind.TP_DP_CP: ("tp", "dp", "cp"),
    GroupKind.EP: ("ep",),
    GroupKind.EXPERT_TP: ("etp",),
    GroupKind.EXPERT_TP_EP: ("etp", "ep"),
    GroupKind.EXPERT_MODEL: ("etp", "ep", "pp"),
    GroupKind.EXPERT_DP: ("edp",),
    GroupKind.WORLD: ("tp", "cp", "dp", "pp"),
}


def group_table(layout: Layout, kind: GroupKind, *, order: RankOrder = DEFAULT_ORDER) -> RankTable:
    """Return the groups of a kind: [groups, members], members sorted.

    `embedding` are the first and the last rank of a pipeline, `position-embedding` its first,
    and no other rank is in one. `shard` and `expert-shard` are the ranks over which optimizer
    states are cut where `zero_replicas` copies of them are kept, `replica` the ranks that hold
    the same cut (of expert data parallelism, which Megatron uses for both).
    """
    if kind in _AXES:
        return rank_table(layout, *_AXES[kind], order=order)
    pipelines = rank_table(layout, "pp", order=order)
    replicas = layout.zero_replicas
    dense, expert = (rank_table(layout, *axes, order=order) for axes in (("dp", "cp"), ("edp",)))
    match kind:
        case GroupKind.EMBEDDING:
            return pipelines[:, [0, -1]] if layout.pp > 1 else pipelines
        case GroupKind.POSITION_EMBEDDING:
            return pipelines[:, :1]
        case GroupKind.SHARD:
            return dense.reshape(-1, dense.shape[1] // replicas)
        case GroupKind.EXPERT_SHARD:
            return expert.reshape(-1, expert.shape[1] // replicas)
        case _:
            cut = expert.reshape(len(expert), replicas, -1)
            return cut.swapaxes(1, 2).reshape(-1, replicas)


def kinds_of(layout: Layout, *, has_experts: bool) -> tuple[GroupKind, ...]:
    """Return the kinds of group that matter for a layout: with more than one member."""
    experts = {kind for kind, axes in _AXES.items() if {"etp", "ep", "edp"} & set(axes)}
    experts |= {GroupKind.EXPERT_SHARD}
    return tuple(
        kind
        for kind in GroupKind
        if (has_experts or kind not in experts)
        and (layout.zero_replicas > 1 or kind not in _REPLICATED)
        and group_table(layout, kind).shape[1] > 1
    )


_REPLICATED = {GroupKind.SHARD, GroupKind.EXPERT_SHARD, GroupKind.REPLICA}
