"""Bytes on the links of a run in one step: fast links, network adapters, and switches above.

What is counted leaves an accelerator, a host or a switch; the same arrives elsewhere. A ring
(NCCL's) goes through a group in rank order and back to its start, and each rank sends to the
next. Where the ring leaves a domain of fast links, its members there share the crossing, each
through its own adapter: NCCL turns the ring once for each channel. Ignored: trees, in-network
reduction (SHARP) and NCCL's own order of hosts, which differ where a fabric asks for it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.records.layout import Layout
from orchestrator.topology.groups import GroupKind, group_table
from orchestrator.topology.placement import Placement
from orchestrator.topology.ranks import DEFAULT_ORDER, RankOrder, coordinates

Bytes = NDArray[np.float64]


class Pattern(StrEnum):
    """To whom a rank of a group sends."""

    RING = "ring"
    NEXT = "next"
    PREVIOUS = "previous"
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What the ranks of a kind of group send in one step: bytes that leave a rank.

    One number for each pipeline rank, or one for all. `NEXT` and `PREVIOUS` go around the end,
    `ALL` is equal parts for every other member.
    """

    kind: GroupKind
    pattern: Pattern
    sent_bytes: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchLoad:
    """Bytes that leave each switch of a level upwards, by what the switch is called."""

    level: str
    sent_bytes: dict[str, float]

    @property
    def total_bytes(self) -> float:
        """Bytes between the switches of this level."""
        return sum(self.sent_bytes.values())


@dataclass(frozen=True, kw_only=True)
class Loads:
    """Bytes of one step on every kind of link; arrays are [world], sent by each rank.

    `fast` over the links of its domain, `inside` to its own host beyond the domain (PCIe),
    `network` through its own adapter.
    """

    fast: Bytes
    inside: Bytes
    network: Bytes
    by_host: Bytes
    switches: tuple[SwitchLoad, ...]


@dataclass(frozen=True, kw_only=True)
class Edges:
    """Bytes between ranks: three arrays, `number` is the group's; equal pairs may repeat."""

    source: NDArray[np.int32]
    target: NDArray[np.int32]
    number: NDArray[np.int64]
    sent_bytes: Bytes


def loads(
    traffic: Iterable[Traffic],
    layout: Layout,
    placement: Placement,
    *,
    order: RankOrder = DEFAULT_ORDER,
) -> Loads:
    """Return the bytes on every link when all of `traffic` has been sent."""
    world = layout.world_size
    fast, inside, network = np.zeros(world), np.zeros(world), np.zeros(world)
    upward = [np.zeros(int(level.max()) + 1) for level in placement.switches]
    for one in traffic:
        for edges in edges_of(one, layout, order=order):
            near = placement.domain[edges.source] == placement.domain[edges.target]
            home = placement.host[edges.source] == placement.host[edges.target]
            shared = one.pattern is Pattern.RING
            fast += _by_rank(edges, near, placement, shared=shared)
            inside += _by_rank(edges, ~near & home, placement, shared=shared)
            network += _by_rank(edges, ~near & ~home, placement, shared=shared)
            for depth, level in enumerate(placement.switches):
                above = level[placement.host]
                leaves = above[edges.source] != above[edges.target]
                out = above[edges.source[leaves]]
                upward[depth] += summed(out, edges.sent_bytes[leaves], count=len(upward[depth]))
    return Loads(
        fast=fast,
        inside=inside,
        network=network,
        by_host=summed(placement.seat, network, count=len(placement.seats)),
        switches=tuple(
            SwitchLoad(level=name, sent_bytes=dict(zip(names, sums.tolist(), strict=True)))
            for name, names, sums in zip(
                placement.levels, _switch_names(placement), upward, strict=True
            )
        ),
    )


def edges_of(
    traffic: Traffic, layout: Layout, *, order: RankOrder = DEFAULT_ORDER
) -> Iterator[Edges]:
    """Yield who sends how much to whom; at most one edge a rank at a time, to keep it small."""
    table = group_table(layout, traffic.kind, order=order)
    size = table.shape[1]
    if size == 1:
        return
    by_stage = np.asarray(traffic.sent_bytes, dtype=np.float64)
    stage = coordinates(layout, order)["pp"] if len(by_stage) > 1 else np.zeros(1, dtype=np.int32)
    parts = size - 1 if traffic.pattern is Pattern.ALL else 1
    for shift in _shifts(traffic.pattern, size):
        source, target = table.ravel(), np.roll(table, -shift, axis=1).ravel()
        sent = by_stage[stage[source]] if len(by_stage) > 1 else np.full(source.size, by_stage[0])
        number = np.repeat(np.arange(len(table)), size)
        yield Edges(source=source, target=target, number=number, sent_bytes=sent / parts)


def summed(place: NDArray[np.integer[Any]], amounts: Bytes, *, count: int) -> Bytes:
    """Return the amounts added up by place: [count]."""
    return np.bincount(place, amounts, minlength=count).astype(np.float64)


def _shifts(pattern: Pattern, size: int) -> range:
    match pattern:
        case Pattern.RING | Pattern.NEXT:
            return range(1, 2)
        case Pattern.PREVIOUS:
            return range(-1, 0)
        case Pattern.ALL:
            return range(1, size)


def _by_rank(edges: Edges, kept: NDArray[np.bool_], placement: Placement, *, shared: bool) -> Bytes:
    """Return what each rank sends over the kept edges; shared by a group's members in a domain."""
    sent = np.where(kept, edges.sent_bytes, 0.0)
    world = len(placement.seat)
    if not shared:
        return summed(edges.source, sent, count=world)
    domains = int(placement.domain.max()) + 1
    crowd = edges.number * domains + placement.domain[edges.source]
    found, place = np.unique(crowd, return_inverse=True)
    share = summed(place, sent, count=len(found)) / np.bincount(place)
    return summed(edges.source, share[place], count=world)


def _switch_names(placement: Placement) -> Iterator[list[str]]:
    for level, numbers in enumerate(placement.switches):
        names: dict[int, str] = {}
        for host, number in zip(placement.roster, numbers.tolist(), strict=True):
            names.setdefault(number, "/".join(host.path[: level + 1]))
        yield list(names.values())
