"""Lists of hosts in Slurm's short form: `h[001-128,130]`, `rack[1-2]n[01-04],login1`.

    list   := entry ("," entry)*
    entry  := (text | "[" range ("," range)* "]")+
    range  := number | number "-" number          (zeros in front keep their width)

Several brackets in one entry multiply, the last one turning fastest, as `scontrol show
hostnames` prints them. Brackets do not nest.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, product
from math import prod

MAX_HOSTS = 100_000
"""More hosts than that in one list are a slip of the hand."""

_DIGITS = 15
_EXAMPLE = "the form is h[001-128,130]"
_RANGE = re.compile(r"([0-9]+)(?:-([0-9]+))?")
_NUMBERED = re.compile(r"(.*?)([0-9]{1,15})", re.DOTALL)


class NodelistError(ValueError):
    """A list of hosts that cannot be read: where (0-based column), what, and what would be."""

    def __init__(self, *, problem: str, column: int, possible: str = "") -> None:
        self.column = column
        self.possible = possible
        super().__init__(problem)


def expanded(text: str) -> tuple[str, ...]:
    """Return the names that a list stands for, in its order, repeated ones repeated.

    Raises:
        NodelistError: brackets or ranges are wrong, an entry is empty, or it is too long.
    """
    entries = [list(_parts(entry, start=start)) for entry, start in _entries(text)]
    count = sum(prod(map(_count, parts)) for parts in entries)
    if count > MAX_HOSTS:
        message = f"'{shortened(text)}' stands for {count:,} hosts, more than {MAX_HOSTS:,}"
        raise NodelistError(problem=message, column=0)
    return tuple("".join(name) for parts in entries for name in product(*map(_names, parts)))


def compressed(names: Iterable[str]) -> str:
    """Return a short list that `expanded` turns into these names, in this order.

    Only a number at the end of a name goes into a bracket: Slurm wants nothing behind one.
    """
    texts: list[str] = []
    for (prefix, is_numbered), group in groupby(map(_split, names), key=_family):
        digits = [one for _, one in group]
        ranges = list(_ranges(digits)) if is_numbered else []
        if not is_numbered:
            texts += [prefix] * len(digits)
        elif len(ranges) == 1 and "-" not in ranges[0]:
            texts.append(f"{prefix}{ranges[0]}")
        else:
            texts.append(f"{prefix}[{','.join(ranges)}]")
    return ",".join(texts)


def shortened(text: str, *, columns: int = 40) -> str:
    """Return any text as one that can be printed and fits into so many columns."""
    tail = columns // 3
    cut = text if len(text) <= columns else f"{text[: columns - tail - 3]}...{text[-tail:]}"
    return "".join(letter if letter.isprintable() else "?" for letter in cut)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Numbers:
    """Numbers from low to high, written at least `width` digits wide."""

    low: int
    high: int
    width: int


_Part = str | tuple[_Numbers, ...]


def _count(part: _Part) -> int:
    return 1 if isinstance(part, str) else sum(one.high - one.low + 1 for one in part)


def _names(part: _Part) -> list[str]:
    if isinstance(part, str):
        return [part]
    return [f"{n:0{one.width}d}" for one in part for n in range(one.low, one.high + 1)]


def _entries(text: str) -> Iterator[tuple[str, int]]:
    """Yield the entries between the commas outside brackets, each with its column."""
    start, depth = 0, 0
    for column, letter in enumerate(f"{text},"):
        if letter == "," and depth == 0:
            if column == start:
                raise NodelistError(problem="nothing stands between two commas", column=column)
            yield text[start:column], start
            start = column + 1
        depth += (letter == "[") - (letter == "]")
        if depth > 1:
            raise NodelistError(problem="brackets do not nest", column=column, possible=_EXAMPLE)
        if depth < 0:
            raise NodelistError(problem="']' closes no '['", column=column, possible=_EXAMPLE)
    if depth:
        raise NodelistError(problem="'[' is not closed", column=text.rindex("["), possible=_EXAMPLE)


def _parts(entry: str, *, start: int) -> Iterator[_Part]:
    """Yield the literal texts and the brackets of an entry, in order."""
    column = start
    for place, piece in enumerate(re.split(r"[\[\]]", entry)):
        if place % 2:
            yield tuple(_ranges_of(piece, column=column))
        elif piece:
            yield piece
        column += len(piece) + 1


def _ranges_of(text: str, *, column: int) -> Iterator[_Numbers]:
    for one in text.split(","):
        yield _numbers(one, column=column)
        column += len(one) + 1


def _numbers(text: str, *, column: int) -> _Numbers:
    found = _RANGE.fullmatch(text)
    if found is None:
        message = f"'[{shortened(text)}]' is no number and no range"
        raise NodelistError(problem=message, column=column, possible=_EXAMPLE)
    low, high = found[1], found[2] or found[1]
    if max(len(low), len(high)) > _DIGITS:
        message = f"'{shortened(text)}' has more than {_DIGITS} digits"
        raise NodelistError(problem=message, column=column)
    if int(low) > int(high):
        message, possible = f"'[{text}]' runs downwards", f"[{high}-{low}]"
        raise NodelistError(problem=message, column=column, possible=possible)
    if len(high) != len(low) and (low.startswith("0") or high.startswith("0")):
        return _padded(text, low=low, high=high, column=column)
    return _Numbers(low=int(low), high=int(high), width=len(low))


def _padded(text: str, *, low: str, high: str, column: int) -> _Numbers:
    """Return a range whose ends differ in width: right where only the number grew, `[08-120]`."""
    if len(high) > len(low) and not high.startswith("0"):
        return _Numbers(low=int(low), high=int(high), width=len(low))
    width = max(len(low), len(high))
    message = f"the ends of '[{text}]' are padded differently"
    possible = f"[{int(low):0{width}d}-{int(high):0{width}d}]"
    raise NodelistError(problem=message, column=column, possible=possible)


def _split(name: str) -> tuple[str, str]:
    """Return a name as what stands before the number at its end, and the number."""
    found = _NUMBERED.fullmatch(name)
    return (found[1], found[2]) if found else (name, "")


def _family(parts: tuple[str, str]) -> tuple[str, bool]:
    """Return what names of one bracket share; `h` without a number is no sibling of `h1`."""
    return parts[0], bool(parts[1])


def _ranges(digits: list[str]) -> Iterator[str]:
    """Yield ranges of consecutive numbers: `001-128`, `130`."""
    first = last = digits[0]
    for one in digits[1:]:
        if one == f"{int(last) + 1:0{len(first)}d}":
            last = one
            continue
        yield first if first == last else f"{first}-{last}"
        first = last = one
    yield first if first == last else f"{first}-{last}"
