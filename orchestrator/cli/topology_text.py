"""The topology as text: hosts, rank map, groups, bytes on links, and a better order of hosts."""

from collections.abc import Iterator

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.cli.topology_view import Topology
from orchestrator.topology.links import Bytes, Loads
from orchestrator.topology.nodelist import compressed, shortened
from orchestrator.topology.placement import Placement
from orchestrator.topology.rank_rows import RankRow, rank_rows
from orchestrator.topology.ranks import DEFAULT_ORDER
from orchestrator.units import (
    GB,
    bytes_per_s_from_gbit_per_s,
    text_of_seconds,
)

_EXPERT_AXES = ("etp", "ep", "edp")
_SHOWN_ROWS = 48
_LAST_ROWS = 4
_HOSTS_COLUMNS = 30


def picture(topology: Topology, *, wants_rank_map: bool) -> RenderableType:
    """Return what was found, in tables of at most 100 columns."""
    parts: list[RenderableType] = [Text(_headline(topology))]
    if wants_rank_map:
        parts += [Text(""), _rank_map(topology)]
    parts += [Text(""), _groups(topology)]
    if topology.counted.missing:
        missing = ", ".join(topology.counted.missing)
        parts.append(Text(f"bytes on links: not counted for {missing}"))
    elif topology.by_traffic:
        parts += [Text(""), _by_group(topology), Text(""), _links(topology)]
    parts += [Text(f"note: {note}") for note in topology.notes]
    parts += [Text(line) for line in _order(topology)]
    return Group(*parts)


def _headline(topology: Topology) -> str:
    placement, machine = topology.placement, topology.plan.run.machine
    listed = shortened(compressed(host.name for host in placement.hosts), columns=40)
    spares = f", {len(placement.spares)} to spare" if placement.spares else ""
    return (
        f"{machine.world_size:,} ranks on {machine.hosts:,} hosts of {machine.gpus_per_host} "
        f"({listed}{spares}), order {DEFAULT_ORDER.text}"
    )


def _rank_map(topology: Topology) -> Table:
    rows = rank_rows(topology.plan.layout, topology.placement)
    hidden = max(0, len(rows) - _SHOWN_ROWS)
    if hidden:
        first = _SHOWN_ROWS - _LAST_ROWS
        rows = (*rows[:first], *rows[-_LAST_ROWS:])
    axes = [axis for axis, _ in rows[0].axes if topology.has_experts or axis not in _EXPERT_AXES]
    table = _table("hosts", "ranks", *axes, left=("hosts", "ranks", *axes))
    for place, row in enumerate(rows):
        if hidden and place == _SHOWN_ROWS - _LAST_ROWS:
            table.add_row(f"... {hidden:,} more rows (--json has all)")
        table.add_row(*_cells(row, axes))
    return table


def _cells(row: RankRow, axes: list[str]) -> Iterator[str]:
    yield shortened(row.hosts, columns=_HOSTS_COLUMNS)
    yield f"{row.first_rank}-{row.last_rank}"
    texts = dict(row.axes)
    for axis in axes:
        yield texts[axis]


def _groups(topology: Topology) -> Table:
    placement = topology.placement
    levels = [f"across {level}s" for level in placement.levels]
    wide = _hosts_share_a_domain(placement)
    columns = ["group", "ranks", "groups", "hosts each", "across hosts"]
    columns += ["off fast links"] if wide else []
    columns += ["across rails"] if placement.machine.cluster.rails else []
    table = _table(*columns, *levels, left=("group",))
    for span in topology.spans:
        cells = [span.size, span.groups, span.hosts, span.across_hosts]
        cells += [span.across_domains] if wide else []
        cells += [span.across_rails] if placement.machine.cluster.rails else []
        table.add_row(span.kind, *(f"{cell:,}" for cell in (*cells, *span.across_switches)))
    return table


def _by_group(topology: Topology) -> Table:
    """Show what each kind of group sends over which kind of link, all ranks together."""
    levels = [f"across {level}s" for level in topology.placement.levels]
    shows_inside = bool(topology.total.inside.any())
    inside = ["inside hosts"] if shows_inside else []
    title = "sent in a step, all ranks"
    table = _table(
        title, "pattern", "fast links", *inside, "network", *levels, left=(title, "pattern")
    )
    rows = [(one.kind.value, one.pattern.value, load) for one, load in topology.by_traffic]
    for name, pattern, load in [*rows, ("all", "", topology.total)]:
        cells = [load.fast.sum(), *([load.inside.sum()] if shows_inside else [])]
        cells += [load.network.sum(), *(level.total_bytes for level in load.switches)]
        table.add_row(name, pattern, *(_text_of_bytes(cell) for cell in cells))
    return table


def _links(topology: Topology) -> Table:
    """Show the busiest link of each kind, and how long its bytes take at the line's rate."""
    title = "busiest link of a step"
    table = _table(title, "which", "sends", "at its rate", left=(title, "which"))
    for name, which, sent_bytes, rate in _busiest(topology.placement, topology.total):
        took = text_of_seconds(sent_bytes / rate) if rate else ""
        table.add_row(name, which, _text_of_bytes(sent_bytes), took)
    return table


def _busiest(placement: Placement, total: Loads) -> Iterator[tuple[str, str, float, float]]:
    machine = placement.machine
    names = [host.name for host in placement.hosts]
    per_gpu = bytes_per_s_from_gbit_per_s(machine.cluster.network_gbit_per_s_per_gpu)
    for title, sent, rate in (
        ("fast links of a GPU", total.fast, machine.accelerator.scale_up_gb_per_s * GB),
        ("inside a host, from a GPU", total.inside, 0.0),
        ("network, from a GPU", total.network, per_gpu),
    ):
        if sent.any():
            rank = _place_of_most(sent)
            host = names[int(placement.seat[rank])]
            yield title, f"rank {rank} on {shortened(host)}", float(sent[rank]), rate
    if total.by_host.any():
        seat = _place_of_most(total.by_host)
        rate = per_gpu * machine.gpus_per_host
        which = shortened(names[seat])
        yield "network, from a host", which, float(total.by_host[seat]), rate
    for load in total.switches:
        if load.total_bytes:
            name = max(load.sent_bytes, key=lambda one: load.sent_bytes[one])
            yield f"out of a {load.level}", shortened(name), load.sent_bytes[name], 0.0


def _place_of_most(sent: Bytes) -> int:
    """Return where most is sent; of near-equal ones the first, whatever the rounding."""
    return int(np.flatnonzero(sent >= sent.max() * (1 - 1e-9))[0])


def _order(topology: Topology) -> Iterator[str]:
    better, placement = topology.host_order, topology.placement
    if better is None:
        return
    if not better.is_better:
        yield "order of hosts: no better one found"
        return
    yield ""
    yield "a better order of hosts (--reordered FILE writes it):"
    for level, given, own in zip(placement.levels, better.given_bytes, better.bytes, strict=True):
        saved = f"{1 - own / given:.1%}" if given else "0.0%"
        before = _text_of_bytes(given)
        yield f"  across {level}s: {_text_of_bytes(own)} instead of {before} (-{saved})"
    listed = compressed(placement.roster[seat].name for seat in better.seats)
    yield f"  {shortened(listed, columns=96)}"


def _hosts_share_a_domain(placement: Placement) -> bool:
    return placement.machine.cluster.scale_up_domain_gpus > placement.machine.gpus_per_host


def _table(*columns: str, left: tuple[str, ...]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="left" if column in left else "right", overflow="fold")
    return table


def _text_of_bytes(size_bytes: float) -> str:
    """Return bytes as networks count them: powers of ten."""
    for unit, name in ((1e12, "TB"), (GB, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size_bytes >= unit:
            return f"{size_bytes / unit:,.2f} {name}"
    return f"{size_bytes:.0f} B"
