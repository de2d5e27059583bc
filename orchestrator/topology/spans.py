"""Which groups leave a host, a domain of fast links, a rail or a switch."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.records.layout import Layout
from orchestrator.topology.groups import GroupKind, group_table
from orchestrator.topology.placement import Numbers, Placement
from orchestrator.topology.ranks import DEFAULT_ORDER, RankOrder, RankTable

ALL_TO_ALL = (GroupKind.EP, GroupKind.EXPERT_TP_EP)
"""Groups in which every member sends to every other one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """How the groups of one kind lie on the hosts; every `across_` counts groups.

    A group goes across rails when members on different hosts that talk are on different planes
    of the network: NCCL then relays over the fast links (PXN) or through the spine.
    `across_switches` has a number for each level of the fabric, outermost first.
    """

    kind: GroupKind
    size: int
    groups: int
    hosts: int
    across_hosts: int
    across_domains: int
    across_rails: int
    across_switches: tuple[int, ...]


def span_of(
    kind: GroupKind, layout: Layout, placement: Placement, *, order: RankOrder = DEFAULT_ORDER
) -> Span:
    """Return how the groups of a kind lie; `hosts` is the most that one of them is spread over."""
    table = group_table(layout, kind, order=order)
    host = placement.host[table]
    spread = np.sort(host, axis=1)
    return Span(
        kind=kind,
        size=table.shape[1],
        groups=len(table),
        hosts=int((np.diff(spread, axis=1) != 0).sum(axis=1).max(initial=0)) + 1,
        across_hosts=_crossing(host),
        across_domains=_crossing(placement.domain[table]),
        across_rails=_across_rails(table, placement, everyone=kind in ALL_TO_ALL),
        across_switches=tuple(_crossing(level[host]) for level in placement.switches),
    )


def _crossing(where: Numbers) -> int:
    return int(_differs(where).sum())


def _differs(where: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
    return np.asarray((where != where[:, :1]).any(axis=1))


def _across_rails(table: RankTable, placement: Placement, *, everyone: bool) -> int:
    """Count the groups over several hosts whose hosts do not use the same rails each.

    Where everyone talks to everyone, more than one rail is enough.
    """
    seat, rail = placement.seat[table], placement.rail[table]
    leaves = _differs(placement.domain[table])
    if everyone:
        return int((leaves & _differs(rail)).sum())
    seats, group = len(placement.seats), np.arange(len(table))[:, None]
    crowd, place = np.unique((group * seats + seat).ravel(), return_inverse=True)
    used = np.zeros(len(crowd), dtype=np.uint64)
    np.bitwise_or.at(used, place, np.uint64(1) << rail.ravel().astype(np.uint64))
    return int((leaves & _differs(used[place].reshape(table.shape))).sum())
