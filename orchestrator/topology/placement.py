"""Placement: which host holds a rank, and which groups have to leave it.

Ranks fill hosts in order: rank r is accelerator r mod g of host r div g.
"""

from dataclasses import dataclass

from orchestrator.records.layout import Layout
from orchestrator.records.run import Machine
from orchestrator.topology.ranks import Group, groups


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One accelerator: host and local rank, each 0-based."""

    host: int
    local_rank: int


def place_of(rank: int, machine: Machine) -> Place:
    """Return where a rank runs."""
    host, local_rank = divmod(rank, machine.gpus_per_host)
    return Place(host=host, local_rank=local_rank)


def hosts_of(group: Group, machine: Machine) -> tuple[int, ...]:
    """Return the hosts over which a group is spread, sorted."""
    return tuple(sorted({place_of(rank, machine).host for rank in group}))


def crossing_groups(layout: Layout, machine: Machine, *axes: str) -> tuple[Group, ...]:
    """Return the groups of these axes that are spread over more than one host."""
    return tuple(group for group in groups(layout, *axes) if len(hosts_of(group, machine)) > 1)
