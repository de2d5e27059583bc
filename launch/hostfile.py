"""Hostfiles: every dialect people have lying about, read into one kind of host.

`hostfiles/README.md` defines the grammar and has an example of each dialect. All that is wrong
with a file is reported at once, by line; nothing is guessed: a file that is missing or empty is
an error, never "this machine alone".
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from launch.host_lines import addresses_of, hosts_of_line
from launch.host_table import columns_of, hosts_of_row, is_header
from launch.host_words import Flaw
from orchestrator.errors import InvalidFile, Problem
from orchestrator.topology.address import PATTERN_VARIABLE, VARIABLE
from orchestrator.topology.hosts import LEVELS, Host
from orchestrator.topology.nodelist import MAX_HOSTS

_SHOWN_PROBLEMS = 50
_COMMENT = re.compile(r"(?:^|\s)#.*$")
_ALL_OR_NONE = ("gpus", *LEVELS, "switches")

Line = tuple[int, str]


def read_hosts(path: Path) -> tuple[Host, ...]:
    """Return the hosts of a hostfile.

    Raises:
        InvalidFile: it is missing, unreadable, empty, or wrong; by line.
    """
    source = str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        # DeepSpeed warns and trains on this machine alone; a job of one host is no smaller job.
        problem = Problem(key="", message="hostfile not found", possible="nothing was started")
        raise InvalidFile(file=source, problems=[problem]) from error
    except UnicodeDecodeError as error:
        problem = Problem(key="", message=f"is not UTF-8 text (byte {error.start})")
        raise InvalidFile(file=source, problems=[problem]) from error
    except (OSError, ValueError) as error:
        problem = Problem(key="", message=f"cannot be read: {_reason(error)}")
        raise InvalidFile(file=source, problems=[problem]) from error
    return parse_hosts(text, source=source)


def parse_hosts(text: str, *, source: str) -> tuple[Host, ...]:
    """Return the hosts of a hostfile's text, in its order, whatever its dialect.

    Raises:
        InvalidFile: every problem of the text, each with its line; `source` is the file's name.
    """
    lines = list(_content(text))
    if not lines:
        problem = Problem(key="", message="no host is in it", possible="a line a host: h1 slots=8")
        raise InvalidFile(file=source, problems=[problem])
    problems: list[Problem] = []
    hosts = tuple(_hosts(lines, problems))
    problems += [*_repeated(hosts), *_incomplete(hosts), *_uneven(hosts)]
    if len(hosts) > MAX_HOSTS:
        message = f"{len(hosts):,} hosts are more than {MAX_HOSTS:,}"
        problems.append(Problem(key="", message=message))
    if problems:
        raise InvalidFile(file=source, problems=_first(problems))
    return hosts


def _content(text: str) -> Iterator[Line]:
    """Yield the lines that say something, numbered; a byte-order mark and CRLF are no matter."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    for number, line in enumerate(text.split("\n"), start=1):
        content = _COMMENT.sub("", line).rstrip()
        if content:
            yield number, content


def _hosts(lines: list[Line], problems: list[Problem]) -> Iterator[Host]:
    """Yield the hosts of the lines that can be read; the others become problems."""
    first = lines[0][1].strip()
    columns: tuple[str, ...] = ()
    if first.startswith((f"{VARIABLE}=", f"{PATTERN_VARIABLE}=")):
        yield from addresses_of(lines, problems)
        return
    if is_header(first):
        try:
            columns = columns_of(first)
        except Flaw as flaw:
            problems.append(flaw.at(lines[0][0]))
            return
        lines = lines[1:]
        if not lines:
            problems.append(Problem(key="", message="no host is under the header"))
    for number, line in lines:
        try:
            if columns:
                yield from list(hosts_of_row(line, columns=columns, number=number))
            else:
                yield from list(hosts_of_line(line, number=number))
        except Flaw as flaw:
            problems.append(flaw.at(number))


def _repeated(hosts: Iterable[Host]) -> Iterator[Problem]:
    """Yield a problem for each host that is there again; names do not differ by case alone."""
    seen: dict[str, Host] = {}
    for host in hosts:
        words = {host.name.lower()} | ({host.address.lower()} if host.address else set())
        for word in sorted(words):
            before = seen.setdefault(word, host)
            if before is host:
                continue
            where = f"line {before.line}" if before.line != host.line else "this line"
            message = f"'{host.name}' is named on {where} already"
            if before.name.lower() != host.name.lower():
                message = f"'{host.name}' has the address of '{before.name}' on {where}"
            elif before.gpus != host.gpus:
                message += f", there with slots={before.gpus}, here with slots={host.gpus}"
            yield Problem(key=f"line {host.line}", message=message, possible="keep one of them")
            break


def _incomplete(hosts: tuple[Host, ...]) -> Iterator[Problem]:
    """Yield a problem for each fact that some hosts have and others lack."""
    for fact in _ALL_OR_NONE:
        with_it = [host for host in hosts if getattr(host, fact)]
        without = [host for host in hosts if not getattr(host, fact)]
        if not with_it or not without:
            continue
        word = "slots" if fact == "gpus" else fact
        message = (
            f"'{without[0].name}' has no {word}, and '{with_it[0].name}' on line "
            f"{with_it[0].line} has"
        )
        if len(without) > 1:
            message += f"; so have {len(without) - 1:,} more hosts none"
        possible = f"give {word} for every host or for none"
        yield Problem(key=f"line {without[0].line}", message=message, possible=possible)


def _uneven(hosts: tuple[Host, ...]) -> Iterator[Problem]:
    """Yield a problem where the fabric is deeper above some hosts than above others."""
    for host in hosts:
        if host.switches and len(host.switches) != len(hosts[0].switches) > 0:
            message = (
                f"'{host.name}' is {len(host.switches)} switches deep, '{hosts[0].name}' on line "
                f"{hosts[0].line} is {len(hosts[0].switches)}"
            )
            yield Problem(key=f"line {host.line}", message=message)


def _first(problems: list[Problem]) -> list[Problem]:
    """Return the problems in the order of lines, the first fifty of them and how many follow."""
    ordered = sorted(problems, key=lambda problem: int(problem.key.split(",")[0][5:] or 0))
    more = len(ordered) - _SHOWN_PROBLEMS
    if more <= 1:
        return ordered
    rest = Problem(key="", message=f"{more:,} more problems like these")
    return [*ordered[:_SHOWN_PROBLEMS], rest]


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
