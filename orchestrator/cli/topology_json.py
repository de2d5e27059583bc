"""The topology as JSON, keys stable."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from orchestrator.cli.topology_view import Topology
from orchestrator.topology.groups import group_table
from orchestrator.topology.hosts import Host
from orchestrator.topology.links import Loads
from orchestrator.topology.ranks import DEFAULT_ORDER, coordinates


def document_of(
    topology: Topology, *, wants_rank_map: bool, files: Mapping[str, str]
) -> dict[str, Any]:
    """Return what `llmorch validate --hostfile F --json` adds; ranks and members where asked."""
    placement = topology.placement
    document = {
        "order": DEFAULT_ORDER.text,
        "hosts": [_host(host) for host in placement.hosts],
        "spares": [_host(host) for host in placement.spares],
        "groups": [asdict(span) for span in topology.spans],
        "levels": list(placement.levels),
        "uncounted": list(topology.counted.missing),
        "traffic": [
            asdict(one) | {"links": _links(load, with_each=False)}
            for one, load in topology.by_traffic
        ],
        "links": _links(topology.total, with_each=True),
        "host_order": _order(topology),
        "notes": list(topology.notes),
        "files": dict(files),
    }
    return document | ({"rank_map": _rank_map(topology)} if wants_rank_map else {})


def _host(host: Host) -> dict[str, Any]:
    return {"name": host.name, "gpus": host.gpus, "path": list(host.path), "line": host.line}


def _links(load: Loads, *, with_each: bool) -> dict[str, Any]:
    document: dict[str, Any] = {
        "fast_bytes": float(load.fast.sum()),
        "inside_hosts_bytes": float(load.inside.sum()),
        "network_bytes": float(load.network.sum()),
        "switches": [
            {"level": level.level, "sent_bytes": level.total_bytes} for level in load.switches
        ],
    }
    if not with_each:
        return document
    return document | {
        "most_fast_bytes_of_a_rank": float(load.fast.max()),
        "most_network_bytes_of_a_rank": float(load.network.max()),
        "network_bytes_by_host": load.by_host.tolist(),
        "sent_bytes_by_switch": {level.level: level.sent_bytes for level in load.switches},
    }


def _order(topology: Topology) -> dict[str, Any] | None:
    better = topology.host_order
    if better is None:
        return None
    return {
        "is_better": better.is_better,
        "hosts": [topology.placement.roster[seat].name for seat in better.seats],
        "given_bytes": list(better.given_bytes),
        "bytes": list(better.bytes),
        "saved_bytes": list(better.saved_bytes),
    }


def _rank_map(topology: Topology) -> dict[str, Any]:
    """Return where each rank stands, [rank] an axis, and the members of every group."""
    placement, layout = topology.placement, topology.plan.layout
    axes = {axis: numbers.tolist() for axis, numbers in coordinates(layout).items()}
    return {
        "host": placement.seat.tolist(),
        "local_rank": placement.local_rank.tolist(),
        **axes,
        "members": {
            span.kind.value: group_table(layout, span.kind).tolist() for span in topology.spans
        },
    }
