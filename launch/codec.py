"""Records to JSON lines and back; standard library alone.

A record is a frozen dataclass; a `Line` can stand alone, its `KIND` being the `kind` field of the
line; other records only travel inside one. A field without a default must be in the line; a field
with one was added later and may be absent. Fields nobody knows are ignored, so that old and new
programs can talk.

A family is the set of records which one reader expects: an agent never accepts a record that only
an agent may send.
"""

import json
import math
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from enum import StrEnum
from functools import cache
from typing import Any, ClassVar, TypeVar, Union, cast, get_args, get_origin, get_type_hints

LINE_LIMIT_BYTES = 1 << 20
_SHOWN_CHARACTERS = 40  # of a stranger's value in an error message


class WireError(Exception):
    """A line that is not the record it should be; says which field is wrong and how."""

    def __init__(self, *, problem: str, field: str | None = None) -> None:
        self.problem = problem
        self.field = field
        super().__init__(problem if field is None else f"{field}: {problem}")


class UnknownKindError(WireError):
    """A well-formed line of a kind this program does not know: report it and skip it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What every record is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line(Record):
    """A record that is a line of its own."""

    KIND: ClassVar[str]
    LIMIT_BYTES: ClassVar[int] = LINE_LIMIT_BYTES


R = TypeVar("R", bound=Record)
L = TypeVar("L", bound=Line)
Family = Mapping[str, type[L]]


def family(*lines: type[L]) -> Family[L]:
    """The lines a reader expects, by kind."""
    return types.MappingProxyType({line.KIND: line for line in lines})


def encode(record: Line) -> bytes:
    """The record's line with its newline; refuses what a reader would refuse."""
    try:
        line = text(to_json(record)).encode() + b"\n"
    except ValueError as error:  # a number that is not finite, or text that is not Unicode
        raise WireError(problem=str(error), field=record.KIND) from None
    if len(line) > record.LIMIT_BYTES:
        problem = f"{len(line)} bytes, the limit is {record.LIMIT_BYTES}"
        raise WireError(problem=problem, field=record.KIND)
    return line


def decode(line: bytes | str, among: Family[L]) -> L:
    """The record a line holds, when it is one of the family.

    Raises:
        UnknownKindError: the line is well formed, its kind is not of the family.
        WireError: anything else is wrong with it.
    """
    return from_json(parse(line), among)


def parse(line: bytes | str) -> object:
    """The JSON value of a line; unlike `json.loads` it refuses NaN and Infinity."""
    try:
        return _DECODER.decode(line if isinstance(line, str) else _decoded(line))
    except (ValueError, RecursionError) as error:
        raise WireError(problem=f"not JSON ({error})") from None


def text(values: object) -> str:
    """JSON in one line, as records and the journal write it; refuses NaN with ValueError."""
    return _ENCODER.encode(values)


def to_json(record: Record) -> dict[str, object]:
    """The record as plain JSON values, `kind` first; a later field left empty is not written."""
    values: dict[str, object] = {"kind": record.KIND} if isinstance(record, Line) else {}
    kind: Any = type(record)  # to mypy a class of dataclasses is not Hashable
    for name, is_required in _written(kind):
        value = getattr(record, name)
        if value is not None or is_required:
            values[name] = _plain(value)
    return values


def from_json(data: object, among: Family[L]) -> L:
    """The record that plain JSON values describe; see `decode`."""
    values = _object(data, None)
    kind = values.get("kind")
    if not isinstance(kind, str):
        raise _mismatch(kind, expected="text", place="kind")
    if kind not in among:
        raise UnknownKindError(problem=f"unknown kind {_name(kind)}", field="kind")
    return _read_record(among[kind], values, kind)


_Reader = Callable[[object, str], Any]  # a JSON value and its place -> the field's value
_Field = tuple[str, _Reader, bool, frozenset[type]]  # name, reader, is required, taken as is


def _read_record(record: Callable[..., R], data: object, place: str) -> R:
    given = _object(data, place)
    values = {}
    for name, reader, is_required, taken_as_is in _readers(record):
        if name in given:
            value = given[name]
            is_plain = type(value) in taken_as_is  # most are: no reader, no place to name
            values[name] = value if is_plain else reader(value, f"{place}.{name}")
        elif is_required:
            raise WireError(problem="missing", field=f"{place}.{name}")
    return record(**values)


@cache
def _readers(record: Any) -> tuple[_Field, ...]:  # noqa: ANN401 - a record class
    hints = get_type_hints(record)
    return tuple(
        (f.name, _reader(hints[f.name]), f.default is MISSING, _taken_as_is(hints[f.name]))
        for f in fields(record)
    )


def _taken_as_is(hint: Any) -> frozenset[type]:  # noqa: ANN401 - an annotation
    """The types of JSON values that a reader of this annotation would return unchanged."""
    hints = get_args(hint) if get_origin(hint) in {Union, types.UnionType} else (hint,)
    return frozenset(h for h in hints if h in {int, str, types.NoneType})


def _reader(hint: Any) -> _Reader:  # noqa: ANN401 - an annotation has no better type
    """How to read a value of an annotated type; a type no record uses is our bug."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in {Union, types.UnionType}:
        return _union_reader(arguments)
    if origin is tuple:
        return _tuple_reader(_reader(arguments[0]))
    if origin is Mapping:
        return _read_texts
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return _choice_reader(hint)
    if isinstance(hint, type) and issubclass(hint, Record):
        return lambda value, place: _read_record(hint, value, place)
    return _SCALARS[hint]


def _union_reader(arguments: tuple[Any, ...]) -> _Reader:
    present = [a for a in arguments if a is not types.NoneType]
    inner = _reader(present[0]) if len(present) == 1 else _variant_reader(family(*present))
    if len(present) == len(arguments):
        return inner
    return lambda value, place: None if value is None else inner(value, place)


def _variant_reader(among: Family[Line]) -> _Reader:
    def read(value: object, place: str) -> Line:
        try:
            return from_json(value, among)
        except WireError as error:
            inside = place if error.field is None else f"{place}.{error.field}"
            raise type(error)(problem=error.problem, field=inside) from None

    return read


def _tuple_reader(inner: _Reader) -> _Reader:
    def read(value: object, place: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise _mismatch(value, expected="a list", place=place)
        return tuple(inner(item, f"{place}[{i}]") for i, item in enumerate(value))

    return read


def _choice_reader(choices: type[StrEnum]) -> _Reader:
    def read(value: object, place: str) -> StrEnum:
        if not isinstance(value, str) or value not in list(choices):
            raise _mismatch(value, expected="one of " + ", ".join(choices), place=place)
        return choices(value)

    return read


def _read_int(value: object, place: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _mismatch(value, expected="a whole number", place=place)
    return value


def _read_float(value: object, place: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _mismatch(value, expected="a number", place=place)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):  # 1e999 is valid JSON
        raise _mismatch(value, expected="a finite number", place=place)
    return number


def _read_text(value: object, place: str) -> str:
    if not isinstance(value, str):
        raise _mismatch(value, expected="text", place=place)
    return value


def _read_texts(value: object, place: str) -> dict[str, str]:
    return {key: _read_text(item, f"{place}.{key}") for key, item in _object(value, place).items()}


_SCALARS: Mapping[Any, _Reader] = types.MappingProxyType(
    {int: _read_int, float: _read_float, str: _read_text}
)


def _object(value: object, place: str | None) -> dict[str, object]:
    if not isinstance(value, dict):
        raise _mismatch(value, expected="an object", place=place)
    return value


def _mismatch(found: object, *, expected: str, place: str | None) -> WireError:
    return WireError(problem=f"expected {expected}, found {_name(found)}", field=place)


def _name(value: object) -> str:
    """A value as an error message shows it: short, whatever a stranger sent."""
    if value is None:
        return "null"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    return repr(value)[:_SHOWN_CHARACTERS]


@cache
def _written(record: Any) -> tuple[tuple[str, bool], ...]:  # noqa: ANN401 - a record class
    """The fields of a record, and which of them are in every line."""
    return tuple((field.name, field.default is MISSING) for field in fields(record))


def _plain(value: Any) -> object:  # noqa: ANN401 - any field's value
    if value is None or type(value) in _PLAIN_TYPES:  # nearly all are: the short way
        return cast("object", value)
    if isinstance(value, Record):
        return to_json(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return dict(value)
    return value


def _refuse_constant(constant: str) -> object:
    raise ValueError(constant)


def _decoded(line: bytes) -> str:
    return line.decode(json.detect_encoding(line), "surrogatepass")


# Made once: `json.loads` and `json.dumps` would make them anew for each record.
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_PLAIN_TYPES = frozenset({int, float, str, bool})
