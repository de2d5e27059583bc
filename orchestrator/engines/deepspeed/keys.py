"""Every key of each release's JSON: since when, until when, and what it takes.

DeepSpeed ignores a key of the top level that it does not know; a misspelled block is a run without
it. `keys.json` was read from the releases themselves: keys of the top level from what
`DeepSpeedConfig` looks up, those of blocks from its pydantic classes, removed ones from what it
raises. A test holds the installed release to it.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from math import isfinite
from types import MappingProxyType
from typing import Any

from orchestrator.errors import nearest
from orchestrator.records.engine import release

RELEASES = tuple(f"0.19.{patch}" for patch in range(9))
"""The releases of DeepSpeed that are rendered for."""

_LIMITS: Mapping[str, Callable[[float, float], bool]] = MappingProxyType(
    {
        "gt": lambda value, limit: value > limit,
        "ge": lambda value, limit: value >= limit,
        "le": lambda value, limit: value <= limit,
    }
)
_TYPES: Mapping[str, type] = MappingProxyType(
    {"any": object, "block": dict, "bool": bool, "list": list, "str": str}
)


def complaints(version: str, own: Mapping[str, Any], block: str = "") -> Iterator[str]:
    """Yield why a release would not take keys, or would ignore them: each key with its path."""
    table = forms_of(version, block)
    for key, value in own.items():
        path = f"{block}.{key}" if block else key
        if key not in table:
            yield f"{path}: {_absent(version, block, key)}"
            continue
        wrong = _wrong(table[key], value)
        if wrong is not None:
            yield f"{path}: {wrong}"
        elif isinstance(value, dict) and path in _tables()["blocks"]:
            yield from complaints(version, value, path)


@cache
def forms_of(version: str, block: str) -> Mapping[str, str]:
    """Return the keys of a block ("" is the top level) in a release, with what they take."""
    found = {
        key: form.get("takes", "any")
        for key, forms in _block(block).items()
        for form in forms
        if _is_in(form, version)
    }
    return MappingProxyType(found)


@cache
def _tables() -> Mapping[str, Any]:
    text = (files(__package__) / "keys.json").read_text(encoding="utf-8")
    return MappingProxyType(json.loads(text))


def _block(block: str) -> Mapping[str, list[dict[str, str]]]:
    table: Mapping[str, list[dict[str, str]]] = (
        _tables()["blocks"][block] if block else _tables()["top"]
    )
    return table


def _is_in(form: Mapping[str, str], version: str) -> bool:
    at = release(version)
    begun = "since" not in form or release(form["since"]) <= at
    return begun and ("removed" not in form or at < release(form["removed"]))


def _absent(version: str, block: str, key: str) -> str:
    """Say why a release has no such key: it came later, it is gone, or it is none at all."""
    for form in _block(block).get(key, ()):
        if "removed" in form and release(form["removed"]) <= release(version):
            return f"removed in {form['removed']}, which refuses it"
        if "since" in form and release(form["since"]) > release(version):
            return f"{version} does not know it; it came with {form['since']}"
    where = f"of {block}" if block else "of DeepSpeed's, which would ignore it"
    return f"no key {where}; {nearest(key, forms_of(version, block))}"


def _wrong(takes: str, value: object) -> str | None:
    """Return what a key takes where the value is something else, None where it fits."""
    kind, *limits = takes.split()
    if not _is_of(kind, value):
        return f"takes {_words(takes)}, not {json.dumps(value)}"
    for name, limit in zip(limits[::2], limits[1::2], strict=True):
        assert isinstance(value, int | float)  # noqa: S101  limits are of numbers, in our own file
        if not _LIMITS[name](value, float(limit)):
            return f"takes {_words(takes)}, not {json.dumps(value)}"
    return None


def _is_of(kind: str, value: object) -> bool:
    if "|" in kind:
        return not isinstance(value, bool) and str(value) in kind.split("|")
    if kind in {"int", "float"}:
        return _is_number(value) and (kind == "float" or float(str(value)).is_integer())
    return isinstance(value, _TYPES[kind])


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _words(takes: str) -> str:
    kind, *limits = takes.split()
    names = {"int": "a whole number", "float": "a number", "bool": "true or false"}
    names |= {"block": "a block", "list": "a list", "str": "text"}
    signs = {"gt": "above", "ge": "at least", "le": "at most"}
    word = names.get(kind, ", ".join(kind.split("|")))
    bounds = [f"{signs[n]} {v}" for n, v in zip(limits[::2], limits[1::2], strict=True)]
    return " ".join((word, " and ".join(bounds))).strip()
