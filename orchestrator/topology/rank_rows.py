"""The rank map as rows that fit a page: one a host, or one for each run of like hosts."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from orchestrator.records.layout import Layout
from orchestrator.topology.nodelist import compressed
from orchestrator.topology.placement import Placement
from orchestrator.topology.ranks import DEFAULT_ORDER, RankOrder, coordinates

_LISTED = 4

MOST_ROWS = 32
"""More hosts than this are shown together, pipeline rank by pipeline rank."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankRow:
    """Hosts that follow each other, their ranks, and the coordinates that stand on them."""

    hosts: str
    num_hosts: int
    first_rank: int
    last_rank: int
    axes: tuple[tuple[str, str], ...]


def rank_rows(
    layout: Layout, placement: Placement, *, order: RankOrder = DEFAULT_ORDER
) -> tuple[RankRow, ...]:
    """Return the rank map, in the order of ranks; axes as `0-7`, `0,2` or `0,4,...,60`."""
    where = coordinates(layout, order)
    cuts = list(range(len(placement.seats) + 1))
    if len(placement.seats) > MOST_ROWS:
        cuts = _cuts(where["pp"].reshape(len(placement.seats), -1))
    per_host = placement.machine.gpus_per_host
    names = [host.name for host in placement.hosts]
    return tuple(
        RankRow(
            hosts=compressed(names[first:last]),
            num_hosts=last - first,
            first_rank=first * per_host,
            last_rank=last * per_host - 1,
            axes=tuple(
                (axis, _text(numbers[first * per_host : last * per_host]))
                for axis, numbers in where.items()
            ),
        )
        for first, last in pairwise(cuts)
    )


def _cuts(stages: NDArray[np.int32]) -> list[int]:
    """Return where the pipeline ranks of hosts [hosts, accelerators] change."""
    changes = (stages[1:] != stages[:-1]).any(axis=1)
    return [0, *(np.flatnonzero(changes) + 1).tolist(), len(stages)]


def _text(numbers: NDArray[np.int32]) -> str:
    found = np.unique(numbers).tolist()
    steps = {after - before for before, after in pairwise(found)}
    if len(found) > 1 and steps == {1}:
        return f"{found[0]}-{found[-1]}"
    if len(found) > _LISTED:
        return ",".join([*map(str, found[:2]), "...", str(found[-1])])
    return ",".join(map(str, found))
