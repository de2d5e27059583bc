"""The order of hosts that keeps most bytes below the switches of a fabric.

Ranks fill hosts in order, so the order of hosts decides which groups cross a rack. Candidates
are built, not searched: hosts of one switch follow each other, in whole units of the groups
that lie on several hosts, and the places they fill are taken along each order of the axes.
What a rack has left over after whole units joins its neighbours' below the next switch up.

An order is proposed only where no level of the fabric carries more bytes than in the order
given, and at least one carries less. It is good, not proven best: on uneven fabrics the best
order is a hard problem (graph partitioning).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from orchestrator.records.layout import Layout
from orchestrator.topology.groups import group_table
from orchestrator.topology.links import Traffic, edges_of, summed
from orchestrator.topology.placement import Numbers, Placement
from orchestrator.topology.ranks import DEFAULT_ORDER, RankOrder, coordinates

Seats = tuple[int, ...]

_MOST_UNITS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class HostOrder:
    """An order of hosts and the bytes of a step that cross each level, outermost first.

    `seats` are places in the roster; `given_bytes` what the roster's own order sends.
    """

    seats: Seats
    given_bytes: tuple[float, ...]
    bytes: tuple[float, ...]

    @property
    def saved_bytes(self) -> tuple[float, ...]:
        """What the order saves on each level; never negative."""
        return tuple(given - own for given, own in zip(self.given_bytes, self.bytes, strict=True))

    @property
    def is_better(self) -> bool:
        """Whether it saves anything."""
        return any(self.saved_bytes)


@dataclass(frozen=True, kw_only=True)
class _Flows:
    """Bytes between seats: three arrays of equal length."""

    source: Numbers
    target: Numbers
    sent_bytes: NDArray[np.float64]


def best_order(
    traffic: Iterable[Traffic],
    layout: Layout,
    placement: Placement,
    *,
    order: RankOrder = DEFAULT_ORDER,
) -> HostOrder:
    """Return the best order of hosts found, or the given one where none is better.

    Spares take part: hosts that fit badly are the ones left over.
    """
    traffic = tuple(traffic)
    flows = _flows(traffic, layout, placement, order=order)
    given = _crossing(flows, placement, placement.seats)
    best, best_bytes = placement.seats, given
    for seats in _candidates(traffic, layout, placement, order=order):
        crossing = _crossing(flows, placement, seats)
        no_worse = all(own <= old for own, old in zip(crossing, given, strict=True))
        if no_worse and sum(crossing) < sum(best_bytes):
            best, best_bytes = seats, crossing
    return HostOrder(seats=best, given_bytes=given, bytes=best_bytes)


def _flows(
    traffic: Sequence[Traffic], layout: Layout, placement: Placement, *, order: RankOrder
) -> _Flows:
    seats = len(placement.seats)
    keys, sent = [np.zeros(0, dtype=np.int64)], [np.zeros(0)]
    for one in traffic:
        for edges in edges_of(one, layout, order=order):
            pair = placement.seat[edges.source] * seats + placement.seat[edges.target]
            leaves = pair // seats != pair % seats
            found, place = np.unique(pair[leaves], return_inverse=True)
            keys.append(found)
            sent.append(summed(place, edges.sent_bytes[leaves], count=len(found)))
    found, place = np.unique(np.concatenate(keys), return_inverse=True)
    total = summed(place, np.concatenate(sent), count=len(found))
    return _Flows(source=found // seats, target=found % seats, sent_bytes=total)


def _crossing(flows: _Flows, placement: Placement, seats: Seats) -> tuple[float, ...]:
    """Return the bytes between the switches of each level, whole bytes, outermost first."""
    chosen = np.asarray(seats)
    crossing = []
    for level in placement.switches:
        above = level[chosen]
        leaves = above[flows.source] != above[flows.target]
        crossing.append(float(np.rint(flows.sent_bytes[leaves].sum())))
    return tuple(crossing)


def _candidates(
    traffic: Sequence[Traffic], layout: Layout, placement: Placement, *, order: RankOrder
) -> Iterator[Seats]:
    paths = [host.path for host in placement.roster]
    needed = len(placement.seats)
    fills = list(dict.fromkeys(_fills(layout, placement, order=order)))
    for unit in _units(traffic, layout, placement, order=order):
        for largest_first in (False, True):
            whole, rest = _packed(
                list(range(len(paths))), paths, unit=unit, depth=0, largest_first=largest_first
            )
            hosts = [*whole, *rest][:needed]
            for fill in fills:
                seats = [0] * needed
                for host, place in zip(hosts, fill, strict=True):
                    seats[place] = host
                yield tuple(seats)


def _units(
    traffic: Sequence[Traffic], layout: Layout, placement: Placement, *, order: RankOrder
) -> list[int]:
    """Return over how many hosts groups are spread: the sizes worth keeping together."""
    sizes = {1}
    for kind in dict.fromkeys(one.kind for one in traffic):
        seats = placement.seat[group_table(layout, kind, order=order)]
        spread = (np.diff(np.sort(seats, axis=1), axis=1) != 0).sum(axis=1) + 1
        sizes |= set(np.unique(spread).tolist())
    hosts = len(placement.seats)
    inside = {int(size) for size in sizes if size < hosts}
    products = {a * b for a in inside for b in inside if a * b < hosts}
    return sorted(inside | products)[:_MOST_UNITS]


def _fills(layout: Layout, placement: Placement, *, order: RankOrder) -> Iterator[Seats]:
    """Yield orders in which seats are filled: along the axes, in each order of the axes."""
    first = np.arange(len(placement.seats)) * placement.machine.gpus_per_host
    where = coordinates(layout, order)
    keys: list[Numbers] = [where[axis][first].astype(np.int64) for axis in ("tp", "cp", "dp", "pp")]
    keys = [key for key in keys if key.any()]
    for chosen in permutations(keys):
        # numpy sorts by its last key first; the axis that turns fastest is the first one chosen.
        filled: Seats = tuple(np.lexsort([first, *chosen]).tolist())
        yield filled


def _packed(
    hosts: list[int],
    paths: Sequence[tuple[str, ...]],
    *,
    unit: int,
    depth: int,
    largest_first: bool,
) -> tuple[list[int], list[int]]:
    """Return hosts in whole units that share the innermost switch they can, and the others."""
    below: dict[str, list[int]] = {}
    for host in hosts:
        if depth < len(paths[host]):
            below.setdefault(paths[host][depth], []).append(host)
    if not below:
        cut = len(hosts) // unit * unit
        return hosts[:cut], hosts[cut:]
    children = list(below.values())
    if largest_first:
        children.sort(key=len, reverse=True)
    whole: list[int] = []
    rest: list[int] = []
    for child in children:
        units, left = _packed(child, paths, unit=unit, depth=depth + 1, largest_first=largest_first)
        whole += units
        rest += left
    cut = len(rest) // unit * unit
    return [*whole, *rest[:cut]], rest[cut:]
