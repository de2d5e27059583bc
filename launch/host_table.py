"""Hosts as a table: a header and a row a host, separated by commas (CSV)."""

import csv
from collections.abc import Iterable, Iterator, Mapping
from io import StringIO

from launch.host_words import Flaw, checked_label, checked_name, checked_slots, checked_user
from orchestrator.errors import nearest
from orchestrator.topology.hosts import LEVELS, Host
from orchestrator.topology.nodelist import NodelistError, expanded, shortened

COLUMNS = ("host", "gpus", "slots", *LEVELS, "topology", "address", "user")
"""What a header may name; `slots` is `gpus`, `topology` what Slurm calls the address."""

_TELLING = {"host", "gpus", "slots", "rack", "rail", "topology", "address"}


def is_header(line: str) -> bool:
    """Return whether a line is a table's header: `host`, or columns of which one is known."""
    if line.strip().lower() == "host":
        return True
    words = {word.strip().strip('"').lower() for word in line.replace(";", ",").split(",")}
    return len(words) > 1 and bool(words & _TELLING)


def columns_of(line: str) -> tuple[str, ...]:
    """Return the columns that a header names.

    Raises:
        Flaw: one is unknown or written twice, `host` is absent, or some exclude each other.
    """
    if ";" in line:
        raise Flaw(problem="the columns are separated by ';'", possible="separate them by ','")
    columns = tuple(word.lower() for word in _cells(line))
    for place, column in enumerate(columns):
        if column not in COLUMNS:
            problem = f"unknown column '{shortened(column)}'"
            raise Flaw(problem=problem, possible=nearest(column, COLUMNS))
        if column in columns[:place]:
            raise Flaw(problem=f"the column {column} is written twice")
    if "host" not in columns:
        raise Flaw(problem="there is no column host", possible="host,gpus,rack")
    for one, others in (("gpus", {"slots"}), ("topology", set(LEVELS))):
        both = sorted(others & set(columns)) if one in columns else []
        if both:
            raise Flaw(problem=f"the columns {one} and {both[0]} say the same; keep one")
    return columns


def hosts_of_row(line: str, *, columns: tuple[str, ...], number: int) -> Iterator[Host]:
    """Yield the hosts of a row: one, or those of a list such as `h[01-04]`.

    Raises:
        Flaw: it has not the header's columns, or a cell is wrong.
    """
    cells = _cells(line)
    if len(cells) != len(columns):
        problem = f"{len(cells)} cells under {len(columns)} columns ({','.join(columns)})"
        raise Flaw(problem=problem, possible='a list with commas is quoted: "h[1-4,9]"')
    row = {column: cell for column, cell in zip(columns, cells, strict=True) if cell}
    for level in set(LEVELS) & set(row):
        checked_label(row[level], level=level)
    if "host" not in row:
        raise Flaw(problem="the host has no name")
    try:
        names = expanded(row["host"])
    except NodelistError as error:
        raise Flaw(problem=str(error), possible=error.possible) from error
    if len(names) > 1 and {"address", "topology"} & set(row):
        raise Flaw(problem=f"{len(names)} hosts cannot share one address; give each a row")
    for name in names:
        yield _host(checked_name(name), row=row, number=number)


def table_of(hosts: Iterable[Host]) -> str:
    """Return hosts as a table that reads back as the same hosts, in the same order."""
    hosts = tuple(hosts)
    rows = [_row(host) for host in hosts]
    columns = [column for column in COLUMNS if any(column in row for row in rows)]
    text = StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _row(host: Host) -> dict[str, str]:
    cells = {
        "host": host.name,
        "gpus": None if host.gpus is None else str(host.gpus),
        **{level: getattr(host, level) for level in LEVELS},
        "topology": ".".join((*host.switches, host.name)) if host.switches else None,
        "address": host.address,
        "user": host.user,
    }
    return {column: cell for column, cell in cells.items() if cell is not None}


def _host(name: str, *, row: Mapping[str, str], number: int) -> Host:
    slots = row.get("gpus", row.get("slots"))
    return Host(
        name=name,
        gpus=None if slots is None else checked_slots(slots, word="gpus"),
        rack=row.get("rack"),
        rail=row.get("rail"),
        block=row.get("block"),
        switches=_switches(row["topology"], name=name) if "topology" in row else (),
        user=checked_user(row["user"]) if "user" in row else None,
        address=checked_name(row["address"]) if "address" in row else None,
        line=number,
    )


def _switches(text: str, *, name: str) -> tuple[str, ...]:
    if not text.endswith(f".{name}"):
        raise Flaw(problem=f"topology '{shortened(text)}' does not end with .{name}")
    switches = text.removesuffix(f".{name}").split(".")
    return tuple(checked_label(switch, level="switch") for switch in switches)


def _cells(line: str) -> list[str]:
    try:
        return [
            cell.strip() for cell in next(csv.reader([line], strict=True, skipinitialspace=True))
        ]
    except csv.Error as error:
        raise Flaw(problem=f"no row of a table: {error}") from error
