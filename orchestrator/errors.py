"""Name every error a user can meet, with its exit code and its message.

Only classes of this module reach users. They take fields and compose the message themselves:
the place, the value, the rule with its numbers, and what would work.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import IntEnum
from textwrap import wrap

from typing_extensions import override

_SHOWN_NAMES = 12
_SHOWN_FINDINGS = 40
_HOST_COLUMN = 30
_COLUMNS = 100


class ExitCode(IntEnum):
    """The exit codes of every command; frozen, scripts rely on them."""

    OK = 0
    BUG = 1
    USAGE = 2
    INVALID_FILE = 3
    NO_PLAN = 4
    ENGINE_REFUSES = 5
    HOST = 6
    TRAINING_FAILED = 7
    STORAGE = 8
    INTERRUPTED = 130


class LlmorchError(Exception):
    """An error that is the user's to solve, never a bug of ours."""

    exit_code: ExitCode = ExitCode.BUG


class UsageError(LlmorchError):
    """A command was called with words that do not go together."""

    exit_code = ExitCode.USAGE

    def __init__(self, *, problem: str, instead: str = "") -> None:
        self.problem = problem
        self.instead = instead
        super().__init__(_with_hint(problem, instead))


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong in a file: where, what, and what would work."""

    key: str
    message: str
    possible: str = ""
    rule: str = ""

    @override
    def __str__(self) -> str:
        place = f"{self.key}: " if self.key else ""
        return _with_hint(f"{place}{self.message}", self.possible)


class InvalidFile(LlmorchError):
    """A user's file breaks its format or a rule; carries every problem found."""

    exit_code = ExitCode.INVALID_FILE

    def __init__(self, *, file: str, problems: Iterable[Problem]) -> None:
        self.file = file
        self.problems = tuple(problems)
        super().__init__("\n".join(f"{file}: {problem}" for problem in self.problems))


class UnknownName(LlmorchError):
    """A card, engine or launcher of that name does not exist."""

    exit_code = ExitCode.INVALID_FILE

    def __init__(self, *, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind = kind
        self.name = name
        self.known = tuple(sorted(known))
        super().__init__(f"unknown {kind} '{name}'\n  {nearest(name, self.known)}")


class NoPlanFits(LlmorchError):
    """No layout of the search space passes every rule and fits in memory."""

    exit_code = ExitCode.NO_PLAN

    def __init__(self, *, what: str, reasons: Sequence[str], instead: str = "") -> None:
        self.what = what
        self.reasons = tuple(reasons)
        lines = [f"no layout fits {what}", *(f"  {reason}" for reason in reasons)]
        super().__init__(_with_hint("\n".join(lines), instead))


class EngineRefused(LlmorchError):
    """The training engine does not take this configuration."""

    exit_code = ExitCode.ENGINE_REFUSES

    def __init__(self, *, engine: str, reason: str, instead: str = "") -> None:
        self.engine = engine
        self.reason = reason
        self.instead = instead
        super().__init__(_with_hint(f"{engine} refuses the configuration: {reason}", instead))


class EngineDisagrees(EngineRefused):
    """The installed engine does something else than llmorch computes."""

    def __init__(self, *, engine: str, differences: Sequence[str]) -> None:
        self.differences = tuple(differences)
        shown = [f"  {text}" for text in self.differences[:_SHOWN_NAMES]]
        if len(self.differences) > _SHOWN_NAMES:
            shown.append(f"  and {len(self.differences) - _SHOWN_NAMES} more")
        super().__init__(engine=engine, reason="")
        self.args = ("\n".join([f"{engine} and llmorch do not agree:", *shown]),)


class EngineUnasked(EngineRefused):
    """The installed engine is not as llmorch knows it, so it cannot be asked."""

    def __init__(self, *, engine: str, reason: str, instead: str = "") -> None:
        super().__init__(engine=engine, reason=reason)
        self.args = (_with_hint(f"{engine} could not be asked: {reason}", instead),)


class HostError(LlmorchError):
    """A host cannot do what the run needs: missing program, port in use, unreachable."""

    exit_code = ExitCode.HOST

    def __init__(self, *, host: str, problem: str, instead: str = "") -> None:
        self.host = host
        self.problem = problem
        super().__init__(_with_hint(f"{host}: {problem}", instead))


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFinding:
    """One thing that keeps a host from taking part: which check, what it found, what would work."""

    host: str
    check: str
    problem: str
    instead: str = ""


class PreflightFailed(LlmorchError):
    """Hosts cannot take part in a run; carries every finding of every host."""

    exit_code = ExitCode.HOST

    def __init__(self, *, findings: Iterable[HostFinding], num_hosts: int) -> None:
        self.findings = tuple(findings)
        self.num_hosts = num_hosts
        num_failed = len({finding.host for finding in self.findings})
        hosts = "host" if num_hosts == 1 else "hosts"
        headline = f"{num_failed} of {num_hosts} {hosts} cannot take part; nothing was started"
        super().__init__("\n".join((headline, *_finding_rows(self.findings))))


class TrainingFailed(LlmorchError):
    """Training ended without reaching its last step and may not be tried again."""

    exit_code = ExitCode.TRAINING_FAILED

    def __init__(self, *, reason: str, tail: Sequence[str] = (), rest: str = "") -> None:
        self.reason = reason
        self.tail = tuple(tail)
        lines = [reason, *(f"  | {line}" for line in self.tail)]
        if rest:
            lines.append(f"  the rest is in {rest}")
        super().__init__("\n".join(lines))


class StorageError(LlmorchError):
    """A file could not be read or written: missing, full disk, no permission, half-written."""

    exit_code = ExitCode.STORAGE

    def __init__(self, *, path: str, problem: str, instead: str = "") -> None:
        self.path = path
        self.problem = problem
        super().__init__(_with_hint(f"{path}: {problem}", instead))


class Interrupted(LlmorchError):
    """The user stopped the run."""

    exit_code = ExitCode.INTERRUPTED

    def __init__(self, *, what: str) -> None:
        super().__init__(what)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint that names the known word closest to `name`, or all when none is close."""
    words = sorted(known)
    close = get_close_matches(name, words, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    more = f" and {len(words) - _SHOWN_NAMES} more" if len(words) > _SHOWN_NAMES else ""
    return f"known: {', '.join(words[:_SHOWN_NAMES])}{more}" if words else "none is known"


def _finding_rows(findings: Iterable[HostFinding]) -> Iterator[str]:
    """Yield a table that fits 100 columns; hosts with the same trouble share a row."""
    hosts: dict[tuple[str, str, str], list[str]] = {}
    for finding in findings:
        hosts.setdefault((finding.check, finding.problem, finding.instead), []).append(finding.host)
    rows = [(_hosts_cell(names), *key) for key, names in hosts.items()]
    host_width = max(4, *(len(host) for host, *_ in rows[:_SHOWN_FINDINGS]))
    check_width = max(5, *(len(check) for _, check, *_ in rows[:_SHOWN_FINDINGS]))
    yield f"  {'host':{host_width}}  {'check':{check_width}}  problem"
    left = host_width + check_width + 6
    for host, check, problem, instead in rows[:_SHOWN_FINDINGS]:
        lines = [line for text in (problem, instead) for line in _wrapped(text, _COLUMNS - left)]
        yield f"  {host:{host_width}}  {check:{check_width}}  {lines[0] if lines else ''}".rstrip()
        yield from (" " * left + line for line in lines[1:])
    if len(rows) > _SHOWN_FINDINGS:
        yield f"  and {len(rows) - _SHOWN_FINDINGS} more"


def _wrapped(text: str, width: int) -> list[str]:
    return wrap(text, width, break_on_hyphens=False)  # paths are to be copied whole


def _hosts_cell(names: Sequence[str]) -> str:
    """Return the hosts of a row, in at most `_HOST_COLUMN` characters."""
    for shown in range(len(names), 0, -1):
        more = f" +{len(names) - shown}" if shown < len(names) else ""
        cell = ", ".join(names[:shown]) + more
        if len(cell) <= _HOST_COLUMN:
            return cell
    more = f" +{len(names) - 1}" if len(names) > 1 else ""
    return f"{names[0][: _HOST_COLUMN - len(more) - 1]}…{more}"


def _with_hint(message: str, hint: str) -> str:
    return f"{message}\n  {hint}" if hint else message
