"""Every option of each release's parser: what it takes, and which values it allows.

`flags.json` was read from the parsers themselves (`megatron/training/arguments.py`), never from
documentation; tests/engine builds the parsers of the wheels again and compares.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType

RELEASES = ("0.16.1", "0.17.1", "0.18.2", "0.19.2")
"""The releases of Megatron-LM that are rendered for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """One option of a parser; `nargs` is argparse's, None takes one word."""

    kind: str
    nargs: str | int | None = None
    type: str | None = None
    choices: tuple[str, ...] = ()

    @property
    def takes_words(self) -> bool:
        """Whether words follow the flag."""
        return self.kind == "value"


@cache
def flags_of(release: str) -> Mapping[str, Flag]:
    """Return the options of a release by their spelling.

    Raises:
        KeyError: the release is none of `RELEASES`.
    """
    if release not in RELEASES:
        raise KeyError(release)
    table = json.loads((files(__package__) / "flags.json").read_text(encoding="utf-8"))
    found = {
        name: _flag(form)
        for name, forms in table.items()
        for form in forms
        if release in form["in"]
    }
    return MappingProxyType(found)


def releases_with(name: str) -> tuple[str, ...]:
    """Return the releases whose parser knows the option."""
    return tuple(release for release in RELEASES if name in flags_of(release))


def _flag(form: dict[str, object]) -> Flag:
    nargs, choices = form.get("nargs"), form.get("choices", [])
    assert nargs is None or isinstance(nargs, str | int)  # noqa: S101  our own file
    assert isinstance(choices, list)  # noqa: S101
    return Flag(
        kind=str(form["kind"]),
        nargs=nargs,
        type=None if form.get("type") is None else str(form["type"]),
        choices=tuple(choices),
    )


def complaint(release: str, name: str, words: tuple[str, ...]) -> str | None:
    """Return why a release's parser would not take an option with these words, or None."""
    flag = flags_of(release).get(name)
    if flag is None:
        have = releases_with(name)
        known = f"it is an option of {', '.join(have)}" if have else "no release here knows it"
        return f"{name} is not an option of {release}; {known}"
    return _wrong_words(name, flag, words)


def _wrong_words(name: str, flag: Flag, words: tuple[str, ...]) -> str | None:
    if not flag.takes_words:
        return f"{name} is a switch and takes no value, not '{' '.join(words)}'" if words else None
    wanted = _wanted(flag, len(words))
    if len(words) != wanted:
        return f"{name} takes {wanted} value{'s' * (wanted != 1)}, got {len(words)}"
    wrong = [word for word in words if flag.choices and word not in flag.choices]
    if wrong:
        return f"{name} cannot be '{wrong[0]}'; possible: {', '.join(flag.choices)}"
    return _wrong_number(name, flag, words)


def _wanted(flag: Flag, given: int) -> int:
    match flag.nargs:
        case int(number):
            return number
        case "*":
            return given
        case "+":
            return max(1, given)
        case _:
            return 1


def _wrong_number(name: str, flag: Flag, words: tuple[str, ...]) -> str | None:
    reads = {"int": int, "float": float}.get(flag.type or "")
    for word in words:
        try:
            _ = reads(word) if reads else None
        except ValueError:
            return f"{name} takes {flag.type}, not '{word}'"
    return None
