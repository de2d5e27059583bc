"""Which rank of a hanging generation holds up the others, told from where each of them stands.

Theory of operation. Before each collective a rank marks which one: `all_reduce tp 0-3 #12` is the
twelfth that it does in the group of ranks 0 to 3, and it keeps such a count for each group. A rank
whose count in a group is higher than another member's waits for that member. A rank that every
member of its group has caught up with waits for nobody: it stopped by itself. When one rank waits
for nobody and all others wait for somebody, it is the guilty one. In all other cases nobody is
named, because a wrong name costs a good host.
"""

import re
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from launch.marks import MOST_GROUPS

_STOPPED = frozenset("Tt")  # /proc/PID/stat: a rank that somebody stopped waits for nobody
_LABEL = re.compile(r"\S+ (?P<group>\S+ (?P<ranks>\S+)) #(?P<count>\d+)")
_RANGE = re.compile(r"(\d+)-(\d+)(?::(\d+))?")
_MOST_MEMBERS = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """Where a rank stands: its last mark, its count in each group, its process's state.

    `counts` is keyed by `group_key`; what a rank has never marked is None or not in it.
    """

    rank: int
    seq: int | None = None
    step: int | None = None
    label: str | None = None
    counts: Mapping[int, int] = field(default_factory=dict)
    process_state: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Blame:
    """The rank that holds up the others, None where nobody can be named, and why."""

    rank: int | None
    why: str


def blame(stands: Iterable[Stand]) -> Blame:
    """The one rank that the others wait for."""
    known = {stand.rank: stand for stand in stands}
    stopped = [r for r, stand in known.items() if stand.process_state in _STOPPED]
    if stopped:
        return _single(stopped, lambda _: "its process is stopped")
    if any(_parsed(stand.label) for stand in known.values()):
        idle = _waiting_for_nobody(known)
        return _single(idle, lambda r: f"{_where(known[r])}, and the others wait for it")
    return _first_of_all(known)


def group_key(group: str) -> int:
    """The number by which a rank's count in a group is known."""
    return zlib.crc32(group.encode())


def members(ranks: str) -> frozenset[int] | None:
    """The ranks of `0-3`, `0-6:2`, `0,5` or `0>2`; None for any other text."""
    found = _RANGE.fullmatch(ranks)
    if found is not None:
        first, last, stride = (int(part or 1) for part in found.groups())
        is_sane = stride > 0 and 0 <= last - first < _MOST_MEMBERS
        return frozenset(range(first, last + 1, stride)) if is_sane else None
    parts = re.split(r"[,>]", ranks)
    return frozenset(map(int, parts)) if all(part.isdecimal() for part in parts) else None


def _waiting_for_nobody(known: Mapping[int, Stand]) -> list[int]:
    lowest: dict[str, int | None] = {}
    idle = []
    for rank, stand in known.items():
        found = _parsed(stand.label)
        if found is None:
            idle.append(rank)
            continue
        group, ranks, count = found
        if group not in lowest:
            lowest[group] = _lowest_count(known, group, ranks)
        least = lowest[group]
        if least is None or least >= count:
            idle.append(rank)
    return idle


def _lowest_count(known: Mapping[int, Stand], group: str, ranks: str) -> int | None:
    """How far the slowest member is known to have come; None where no member's count is known."""
    key = group_key(group)
    counts = (_count(known[r], group, key) for r in members(ranks) or () if r in known)
    return min((count for count in counts if count is not None), default=None)


def _count(stand: Stand, group: str, key: int) -> int | None:
    found = _parsed(stand.label)
    if found is not None and found[0] == group:
        return found[2]
    has_table = 0 < len(stand.counts) < MOST_GROUPS  # a full one may have left this group out
    return stand.counts.get(key, 0 if has_table else None)


def _first_of_all(known: Mapping[int, Stand]) -> Blame:
    """Marks that name no group: the rank that has made fewer than all others stopped first."""
    places = sorted((s.step or 0, s.seq, r) for r, s in known.items() if s.seq is not None)
    silent = [r for r, s in known.items() if s.seq is None]
    if len(silent) == 1 and places:
        return Blame(rank=silent[0], why="it has made no mark, and all others have")
    if silent or len(places) < 2 or places[0][:2] == places[1][:2]:  # noqa: PLR2004 - two of them
        return _NOBODY
    return Blame(rank=places[0][2], why=f"{_where(known[places[0][2]])}, before all others")


def _single(ranks: list[int], why: Callable[[int], str]) -> Blame:
    return Blame(rank=ranks[0], why=why(ranks[0])) if len(ranks) == 1 else _NOBODY


def _where(stand: Stand) -> str:
    return f"it stopped after {stand.label!r}" if stand.label else "it has made no mark"


def _parsed(label: str | None) -> tuple[str, str, int] | None:
    found = None if label is None else _LABEL.fullmatch(label)
    return found and (found["group"], found["ranks"], int(found["count"]))


_NOBODY = Blame(rank=None, why="the guilty rank is unknown")
