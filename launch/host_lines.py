"""Hosts as lines: names alone, DeepSpeed's and MPI's slots, Slurm's lists and addresses."""

import re
from collections.abc import Iterator

from launch.host_words import Flaw, checked_label, checked_name, checked_slots, checked_user
from orchestrator.errors import Problem, nearest
from orchestrator.topology.address import (
    PATTERN_VARIABLE,
    VARIABLE,
    AddressError,
    address_of,
)
from orchestrator.topology.hosts import Host
from orchestrator.topology.nodelist import NodelistError, expanded, shortened

_SLOTS = "slots"
_MAX_SLOTS = ("max_slots", "max-slots")
_ASSIGNMENT = re.compile(r"([^=\s]*)=(\S*)")
_ENTRY = re.compile(r"(?:([^@]*)@)?([^@]*?)(?::([^:@]*))?")


def hosts_of_line(line: str, *, number: int) -> Iterator[Host]:
    """Yield the hosts of a line: `h1`, `h1 slots=8 max_slots=8`, `h1:8`, `h[001-128,130]`.

    Raises:
        Flaw: the line is none of these.
    """
    word, *rest = line.split()
    slots = _slots_of(rest, host=word)
    try:
        entries = expanded(word)
    except NodelistError as error:
        column = len(line) - len(line.lstrip()) + error.column
        raise Flaw(problem=str(error), possible=error.possible, column=column) from error
    for entry in entries:
        yield _host(entry, slots=slots, number=number)


def addresses_of(lines: list[tuple[int, str]], problems: list[Problem]) -> Iterator[Host]:
    """Yield the hosts of lines `SLURM_TOPOLOGY_ADDR=s0.s4.h1`; wrong ones become problems."""
    patterns = {line.partition("=")[2] for _, line in lines if f"{PATTERN_VARIABLE}=" in line}
    if len(patterns) > 1:
        message = f"{PATTERN_VARIABLE} has {len(patterns)} values: {', '.join(sorted(patterns))}"
        problems.append(Problem(key="", message=message))
        return
    pattern = next(iter(patterns), None)
    for number, line in lines:
        try:
            yield from _address(line.strip(), pattern=pattern, number=number)
        except Flaw as flaw:
            problems.append(flaw.at(number))


def _host(entry: str, *, slots: int | None, number: int) -> Host:
    found = _ENTRY.fullmatch(entry)
    if found is None or entry.count(":") > 1:
        checked_name(entry)
        raise Flaw(problem=f"'{shortened(entry)}' is no host", possible="user@host:8")
    user, name, count = found.groups()
    if count is not None and slots is not None:
        raise Flaw(
            problem=f"'{shortened(entry)}' gives the slots twice: :{count} and slots={slots}"
        )
    return Host(
        name=checked_name(name),
        gpus=checked_slots(count, word=_SLOTS) if count is not None else slots,
        user=checked_user(user) if user is not None else None,
        line=number,
    )


def _slots_of(words: list[str], *, host: str) -> int | None:
    given: dict[str, int] = {}
    for word in words:
        found = _ASSIGNMENT.fullmatch(word)
        if found is None:
            problem = f"'{shortened(word)}' after the host is not of the form slots=8"
            raise Flaw(problem=problem, possible=f"{shortened(host)} slots=8")
        name = "max_slots" if found[1] in _MAX_SLOTS else found[1]
        if name not in {_SLOTS, "max_slots"}:
            problem = f"unknown word '{shortened(found[1])}='"
            raise Flaw(problem=problem, possible=nearest(found[1].lower(), [_SLOTS, "max_slots"]))
        if name in given:
            raise Flaw(problem=f"{name} is given twice on this line")
        given[name] = checked_slots(found[2], word=name)
    most = given.get("max_slots")
    if most is not None and most < given.get(_SLOTS, most):
        raise Flaw(problem=f"slots={given[_SLOTS]} is more than max_slots={most}")
    return given.get(_SLOTS)


def _address(line: str, *, pattern: str | None, number: int) -> Iterator[Host]:
    variable, _, value = line.partition("=")
    if variable == PATTERN_VARIABLE:
        return
    if variable != VARIABLE:
        problem = f"'{shortened(line)}' among lines of {VARIABLE}=..."
        raise Flaw(problem=problem, possible=f"{VARIABLE}=s0.s4.h1")
    try:
        found = address_of(value, pattern=pattern)
    except AddressError as error:
        raise Flaw(problem=str(error)) from error
    for switch in found.switches:
        checked_label(switch, level="switch")
    yield Host(name=checked_name(found.host), switches=found.switches, line=number)
