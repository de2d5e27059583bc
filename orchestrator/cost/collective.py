"""One collective of a rank as a record: its kind, its group, how often, how many bytes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType

from orchestrator.records.layout import Layout
from orchestrator.topology.groups import GroupKind


class Kind(StrEnum):
    """What a collective does."""

    ALL_REDUCE = "all-reduce"
    ALL_GATHER = "all-gather"
    REDUCE_SCATTER = "reduce-scatter"
    ALL_TO_ALL = "all-to-all"
    SEND = "send"
    RECEIVE = "receive"


class Axis(StrEnum):
    """The group over which a collective goes; `GROUPS` says which one it is.

    `DP` is dp x cp, the ranks that hold the same dense parameters. `EMBEDDING` is the first and
    the last rank of a pipeline alone.
    """

    TP = "tp"
    CP = "cp"
    EP = "ep"
    ETP = "etp"
    EXPERT_MODEL = "etp-ep"
    PP = "pp"
    DP = "dp"
    EXPERT_DP = "expert-dp"
    EMBEDDING = "embedding"
    TP_CP = "tp-cp"
    TP_DP = "tp-dp"
    MODEL = "tp-pp"
    EXPERT_MODEL_PP = "etp-ep-pp"
    WORLD = "world"


GROUPS: Mapping[Axis, GroupKind] = MappingProxyType(
    {
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
)
"""What `topology` calls the group of an axis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collective:
    """Equal calls of one rank in one step; `payload_bytes` is what it hands in to each.

    `offset`: of a send or receive, where the other rank stands in the group: +1 is the next, -1
    the one before, around the end.
    """

    axis: Axis
    kind: Kind
    purpose: str
    group_size: int
    calls: int
    payload_bytes: int
    offset: int | None = None

    @property
    def bytes(self) -> int:
        """The payload of all calls."""
        return self.calls * self.payload_bytes

    @property
    def sent_bytes(self) -> float:
        """Bytes that leave the rank, in a ring: n - 1 of n parts of the whole.

        Twice for an all-reduce (Thakur et al. 2005; NCCL's ring); an all-to-all keeps its own
        part; a receive sends nothing.
        """
        others = self.group_size - 1
        share = {
            Kind.ALL_REDUCE: 2 * others / self.group_size,
            Kind.ALL_GATHER: others,
            Kind.REDUCE_SCATTER: others / self.group_size,
            Kind.ALL_TO_ALL: others / self.group_size,
            Kind.SEND: 1,
            Kind.RECEIVE: 0,
        }
        return self.bytes * share[self.kind]

    def times(self, factor: int) -> "Collective":
        """Return it made `factor` times as often."""
        return replace(self, calls=self.calls * factor)


def group_size(axis: Axis, layout: Layout) -> int:
    """Return how many ranks are in a group of the axis."""
    dense = layout.dp * layout.cp
    sizes = {
        Axis.TP: layout.tp,
        Axis.CP: layout.cp,
        Axis.EP: layout.ep,
        Axis.ETP: layout.etp,
        Axis.EXPERT_MODEL: layout.etp * layout.ep,
        Axis.PP: layout.pp,
        Axis.DP: dense,
        Axis.EXPERT_DP: layout.expert_dp,
        Axis.EMBEDDING: min(2, layout.pp),
        Axis.TP_CP: layout.tp * layout.cp,
        Axis.TP_DP: layout.tp * dense,
        Axis.MODEL: layout.tp * layout.pp,
        Axis.EXPERT_MODEL_PP: layout.etp * layout.ep * layout.pp,
        Axis.WORLD: layout.world_size,
    }
    return sizes[axis]


def merged(collectives: Iterable[Collective]) -> tuple[Collective, ...]:
    """Return the collectives with equal ones counted together, in order of first appearance.

    Those that nobody takes part in but this rank, or that are never called, are left out.
    """
    found: dict[Collective, int] = {}
    for one in collectives:
        if one.group_size > 1 and one.calls:
            key = replace(one, calls=1)
            found[key] = found.get(key, 0) + one.calls
    return tuple(key.times(calls) for key, calls in found.items())
