"""The words of a hostfile: names, users, addresses and numbers of ranks, each checked once.

A name becomes an argument of ssh and a word of a shell: nothing but letters, digits, dots,
dashes and underscores passes, and a dash never comes first.
"""

import ipaddress
import re

from orchestrator.errors import Problem
from orchestrator.specs.cluster import MAX_RANKS
from orchestrator.topology.nodelist import shortened

_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?")
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_NUMBER = re.compile(r"[0-9]{1,9}")
_LONGEST_LABEL = 100
_FIGURES = re.compile(r"[0-9.]+")


class Flaw(Exception):
    """What is wrong with a line; the reader makes a `Problem` of it. `column` is 0-based."""

    def __init__(self, *, problem: str, possible: str = "", column: int | None = None) -> None:
        self.problem = problem
        self.possible = possible
        self.column = column
        super().__init__(problem)

    def at(self, line: int) -> Problem:
        """Return the problem that it is of a line."""
        place = "" if self.column is None else f", column {self.column + 1}"
        return Problem(key=f"line {line}{place}", message=self.problem, possible=self.possible)


def checked_name(text: str) -> str:
    """Return a host's name or IPv4 address.

    Raises:
        Flaw: it is neither.
    """
    if text.count(":") > 1:
        raise Flaw(problem=f"'{shortened(text)}' looks like an IPv6 address", possible=_USE_A_NAME)
    if _NAME.fullmatch(text) is None or ".." in text:
        problem = f"'{shortened(text)}' is no host name"
        raise Flaw(problem=problem, possible="letters, digits, '.', '-' and '_', no '-' in front")
    if _FIGURES.fullmatch(text) and not _is_ipv4(text):
        raise Flaw(problem=f"'{text}' is neither a host name nor an IPv4 address")
    return text


def checked_user(text: str) -> str:
    """Return the name of a user.

    Raises:
        Flaw: it is none.
    """
    if _USER.fullmatch(text) is None:
        raise Flaw(problem=f"'{shortened(text)}' is no user's name")
    return text


def checked_label(text: str, *, level: str) -> str:
    """Return what a rack, a rail or a block is called.

    Raises:
        Flaw: it cannot be printed, is very long, or holds the sign of a comment.
    """
    if not text.isprintable() or "#" in text or len(text) > _LONGEST_LABEL:
        raise Flaw(problem=f"{text[:20]!r} is no name of a {level}")
    return text


def checked_slots(text: str, *, word: str) -> int:
    """Return a number of ranks.

    Raises:
        Flaw: it is no whole number, zero, or beyond what a run may have.
    """
    if _NUMBER.fullmatch(text) is None:
        problem = f"{word}={shortened(text)} is no whole number"
        raise Flaw(problem=problem, possible=f"{word}=8")
    slots = int(text)
    if not 1 <= slots <= MAX_RANKS:
        raise Flaw(problem=f"{word}={text} is not from 1 to {MAX_RANKS:,}")
    return slots


_USE_A_NAME = "give the host a name, or use its IPv4 address"


def _is_ipv4(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True
