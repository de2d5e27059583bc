"""What would make a rule hold: values for keys of the run file, as data and in words."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

Value = int | float | str | bool | tuple[str, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Values for keys of the run file, all at once; None leaves a key out."""

    values: tuple[tuple[str, Value], ...]


def change(key: str, value: Value) -> Change:
    """Return the change of one key."""
    return Change(values=((key, value),))


def changes(key: str, values: Iterable[Value]) -> tuple[Change, ...]:
    """Return changes of one key, one for each value."""
    return tuple(change(key, value) for value in values)


def nearby(
    values: Iterable[int], *, near: int, fits: Callable[[int], bool], most: int = 3
) -> tuple[int, ...]:
    """Return those few values that fit and are nearest to the one given, ascending."""
    ordered = sorted(set(values), key=lambda value: (abs(value - near), value))
    found: list[int] = []
    for value in ordered:
        if value > 0 and value != near and fits(value):
            found.append(value)
        if len(found) == most:
            break
    return tuple(sorted(found))


def divisors(number: int) -> tuple[int, ...]:
    """Return the divisors of a positive number, ascending."""
    low = [d for d in range(1, int(number**0.5) + 1) if number % d == 0]
    return tuple(sorted({*low, *(number // d for d in low)}))


def multiples(number: int, step: int) -> tuple[int, ...]:
    """Return the multiples of step just below and just above a number."""
    low = number // step * step
    return tuple(value for value in (low, low + step) if value > 0)


def hint(key: str, passing: Sequence[Change], advice: str) -> str:
    """Return the changes in words, those of the key itself first."""
    words: list[str] = []
    for keys, same in groupby(passing, key=lambda one: tuple(name for name, _ in one.values)):
        if len(keys) > 1:
            words += [" with ".join(_pair(key, *pair) for pair in one.values) for one in same]
            continue
        values = [one.values[0][1] for one in same]
        given = ", ".join(_text(value) for value in values if value is not None)
        if given:
            words.append(given if keys[0] == key else f"{_name(key, keys[0])}: {given}")
        if None in values:
            words.append("leave it out" if keys[0] == key else f"no {_name(key, keys[0])}")
    possible = "; or ".join(words)
    if not possible:
        return advice.removeprefix("or ")
    return "; ".join(part for part in (f"possible: {possible}", advice) if part)


def _pair(key: str, name: str, value: Value) -> str:
    if value is None:
        return f"no {_name(key, name)}"
    return f"{_name(key, name)}: {_text(value)}"


def _name(key: str, other: str) -> str:
    """Return a key's last word, or all of it where it stands in another section."""
    section = key.split(".", maxsplit=1)[0]
    return other.removeprefix(f"{section}.") if other.startswith(f"{section}.") else other


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(value)}]"
    if isinstance(value, str) and not value.replace("-", "").replace("_", "").isalnum():
        return f"'{value}'"
    return str(value)
