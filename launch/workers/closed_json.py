"""Reads closed JSON objects into frozen dataclasses, naming everything that is wrong at once.

A worker's configuration is written by a renderer of the same version, so nothing may be unknown,
missing or of another type: a key that is silently ignored is a setting that is silently not
honoured. Standard library alone, so that a wrong file is refused in milliseconds.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import StrEnum
from types import MappingProxyType, NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from orchestrator.errors import Problem, nearest

T = TypeVar("T")

_SHOWN_CHARACTERS = 60  # of a wrong value in a message


class MalformedError(Exception):
    """The value is not of the expected shape; carries every problem found."""

    def __init__(self, *, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def read_object(shape: type[T], value: object) -> T:
    """The dataclass that a JSON value describes.

    Raises:
        MalformedError: a key is unknown or missing, or a value has another type.
    """
    reading = _Reading()
    built = reading.read(shape, value, "")
    if reading.problems:
        raise MalformedError(problems=reading.problems)
    return built  # type: ignore[no-any-return]  # `read` follows the annotation it is given


class _Reading:
    """One pass over a value; what cannot be read becomes None and a problem."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    # An annotation, and the value built from it, have no better type than Any.
    def read(self, hint: Any, value: object, key: str) -> Any:  # noqa: ANN401
        if get_origin(hint) is UnionType:
            (inner,) = (option for option in get_args(hint) if option is not NoneType)
            return None if value is None else self.read(inner, value, key)
        if get_origin(hint) is tuple:
            return self._list(get_args(hint)[0], value, key)
        if is_dataclass(hint):
            return self._fields(hint, value, key)
        if get_origin(hint) is dict:
            return self._open_object(value, key)
        if issubclass(hint, StrEnum):
            return self._choice(hint, value, key)
        return self._scalar(hint, value, key)

    def _list(self, item: Any, value: object, key: str) -> tuple[Any, ...] | None:  # noqa: ANN401
        if not isinstance(value, list):
            self._mismatch("a list", value, key)
            return None
        return tuple(self.read(item, element, f"{key}[{i}]") for i, element in enumerate(value))

    def _fields(self, shape: Any, value: object, key: str) -> object:  # noqa: ANN401
        if not isinstance(value, dict):
            self._mismatch("an object", value, key)
            return None
        found_before = len(self.problems)
        hints = get_type_hints(shape)
        names = [field.name for field in fields(shape)]
        for name in value:
            if name not in names:
                self._refuse(_join(key, name), "unknown key", nearest(str(name), names))
        built = {n: self.read(hints[n], value[n], _join(key, n)) for n in names if n in value}
        for name in names:
            if name not in value:
                self._refuse(_join(key, name), "missing")
        return shape(**built) if len(self.problems) == found_before else None

    def _open_object(self, value: object, key: str) -> dict[str, object] | None:
        if isinstance(value, dict):
            return value
        self._mismatch("an object", value, key)
        return None

    def _choice(self, choices: type[StrEnum], value: object, key: str) -> StrEnum | None:
        if isinstance(value, str) and value in list(choices):
            return choices(value)
        self._refuse(key, f"found {_shown(value)}", f"possible: {', '.join(choices)}")
        return None

    def _scalar(self, kind: type, value: object, key: str) -> object:
        accepted, spoken = _SCALARS[kind]
        # To Python a bool is an int; to whoever wrote the file it never is.
        is_kind = isinstance(value, accepted) and (kind is bool or not isinstance(value, bool))
        if not is_kind or (kind is float and not math.isfinite(value)):  # type: ignore[arg-type]
            self._mismatch(spoken, value, key)
            return None
        return kind(value)

    def _mismatch(self, expected: str, found: object, key: str) -> None:
        self._refuse(key, f"expected {expected}, found {_shown(found)}")

    def _refuse(self, key: str, message: str, possible: str = "") -> None:
        self.problems.append(Problem(key=key, message=message, possible=possible))


_SCALARS: Mapping[type, tuple[tuple[type, ...], str]] = MappingProxyType(
    {
        bool: ((bool,), "true or false"),
        int: ((int,), "a whole number"),
        float: ((int, float), "a number"),
        str: ((str,), "text"),
    }
)


def _shown(value: object) -> str:
    return "null" if value is None else repr(value)[:_SHOWN_CHARACTERS]


def _join(parent: str, name: object) -> str:
    return f"{parent}.{name}" if parent else str(name)
