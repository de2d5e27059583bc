"""Placement: which host holds a rank, on which accelerator, and what it shares with others.

Ranks fill hosts in order: rank r is accelerator r mod g of the r div g th host in use. A
*domain* are the accelerators that the fast links join: a host as a rule, a rack of hosts on
machines such as NVL72. A *rail* is the plane of the network that an accelerator's adapter is on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from orchestrator.records.layout import Layout
from orchestrator.records.run import Machine
from orchestrator.topology.hosts import Host
from orchestrator.topology.ranks import Group, rank_table

Numbers = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Ranks on hosts: `seats[s]` is the place in `roster` of the s-th host in use.

    The arrays are [world], indexed by rank.
    """

    machine: Machine
    roster: tuple[Host, ...]
    seats: tuple[int, ...]

    @property
    def hosts(self) -> tuple[Host, ...]:
        """The hosts in use, in the order in which ranks fill them."""
        return tuple(self.roster[seat] for seat in self.seats)

    @property
    def spares(self) -> tuple[Host, ...]:
        """The hosts that hold no rank, in the order of the roster."""
        used = set(self.seats)
        return tuple(host for place, host in enumerate(self.roster) if place not in used)

    @cached_property
    def seat(self) -> Numbers:
        """Which host in use holds a rank."""
        return np.arange(self.machine.world_size) // self.machine.gpus_per_host

    @cached_property
    def host(self) -> Numbers:
        """The place in the roster of a rank's host."""
        return np.asarray(self.seats)[self.seat]

    @cached_property
    def local_rank(self) -> Numbers:
        """The accelerator of its host that a rank is on."""
        return np.arange(self.machine.world_size) % self.machine.gpus_per_host

    @cached_property
    def rail(self) -> Numbers:
        """The plane of the network that a rank's adapter is on; 0 where there is one plane."""
        rails = self.machine.cluster.rails or 1
        return self.local_rank * rails // self.machine.gpus_per_host

    @cached_property
    def domain(self) -> Numbers:
        """The domain of fast links that a rank is in."""
        size = self.machine.cluster.scale_up_domain_gpus
        per_host = self.machine.gpus_per_host
        if size < per_host:
            return self.host * -(-per_host // size) + self.local_rank // size
        return _domains(self.roster, size // per_host)[self.host]

    @cached_property
    def switches(self) -> tuple[Numbers, ...]:
        """For each level of the fabric, outermost first, the switch above each host: [roster]."""
        depth = max((len(host.path) for host in self.roster), default=0)
        return tuple(
            _numbered([host.path[: level + 1] for host in self.roster]) for level in range(depth)
        )

    @property
    def levels(self) -> tuple[str, ...]:
        """What the levels of the fabric are called, outermost first."""
        return self.roster[0].levels if self.roster else ()


def placed(
    roster: Sequence[Host], machine: Machine, *, seats: Sequence[int] | None = None
) -> Placement:
    """Return ranks on the first hosts of a roster, or on the ones that `seats` says, in order."""
    chosen = tuple(range(machine.hosts)) if seats is None else tuple(seats)
    return Placement(machine=machine, roster=tuple(roster), seats=chosen)


def numbered_hosts(machine: Machine) -> tuple[Host, ...]:
    """Return the hosts of a machine without a hostfile, numbered from 0."""
    width = len(str(machine.hosts - 1))
    return tuple(
        Host(name=f"host{number:0{width}d}", gpus=machine.gpus_per_host)
        for number in range(machine.hosts)
    )


def crossing_groups(layout: Layout, machine: Machine, *axes: str) -> tuple[Group, ...]:
    """Return the groups of these axes that are spread over more than one host."""
    table = rank_table(layout, *axes)
    host = table // machine.gpus_per_host
    spread = table[(host != host[:, :1]).any(axis=1)]
    return tuple(map(tuple, spread.tolist()))


def _domains(roster: Sequence[Host], hosts_each: int) -> Numbers:
    """Return each host's domain: so many hosts that follow each other below one switch."""
    seen: dict[tuple[str, ...], int] = {}
    keys = []
    for host in roster:
        place = seen.get(host.path, 0)
        seen[host.path] = place + 1
        keys.append((host.path, place // hosts_each))
    return _numbered(keys)


def _numbered(keys: Sequence[object]) -> Numbers:
    """Return for each key its number, equal ones equal, in order of first appearance."""
    numbers: dict[object, int] = {}
    return np.asarray([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)
