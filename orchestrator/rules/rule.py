"""The shape of a rule: what must hold, who says so, and how it is examined."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from typing_extensions import override

from orchestrator.records.engine import EngineCapabilities, EngineFamily
from orchestrator.records.layout import Layout
from orchestrator.records.run import ResolvedRun
from orchestrator.rules.change import Change


class Severity(StrEnum):
    """Whether a breach ends the matter, or is only worth knowing."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Who says so: a document, the line in it, and words that stand in that line.

    The words let a test hold an installed engine to it, as line numbers move.
    """

    document: str
    line: int | None = None
    words: str = ""

    @override
    def __str__(self) -> str:
        return self.document if self.line is None else f"{self.document}:{self.line}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What rules examine: a run in a layout, on an engine when one is named."""

    run: ResolvedRun
    layout: Layout
    engine: EngineCapabilities | None = None

    @property
    def family(self) -> EngineFamily:
        """The family of the engine; Megatron where none is named."""
        return EngineFamily.MEGATRON if self.engine is None else self.engine.family

    @property
    def version(self) -> str:
        """The version that would run: the one asked for where the engine has it, or "any"."""
        if self.engine is None:
            return "any"
        asked = self.run.spec.engine.version
        return asked if asked in self.engine.versions else self.engine.version


@dataclass(frozen=True, slots=True, kw_only=True)
class Breach:
    """A rule that does not hold: at which key, with which numbers, and what would pass.

    `said` fills the rule's message. Each of `passing`, put into the run file, makes this rule
    hold (a test does that); `advice` is what cannot be put that way.
    """

    key: str
    said: Mapping[str, object] = field(default_factory=dict)
    passing: Sequence[Change] = ()
    advice: str = ""


Breaches = Sequence[Breach]
PASS: Final[Breaches] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One row of the table.

    `condition` is what must hold, in words; `message` what is said where it does not, with the
    breach's numbers in braces; `since` the first release of the engine's family that asks it
    ("any": all, or it is ours). Only engines of `families` are examined by it. `is_broken` asks
    the same as `check`, where that is much cheaper than to say what would pass: a search breaks
    some rules a thousand times.
    """

    id: str
    condition: str
    message: str
    source: Source
    check: Callable[[Subject], Breaches]
    since: str = "any"
    severity: Severity = Severity.ERROR
    families: frozenset[EngineFamily] = frozenset(EngineFamily)
    is_broken: Callable[[Subject], bool] | None = None


MEGATRON: Final = frozenset({EngineFamily.MEGATRON})
DEEPSPEED: Final = frozenset({EngineFamily.DEEPSPEED})
OURS: Final = "llmorch"
"""The document of rules that no engine asks: what we know to end badly."""


def megatron_core(path: str, line: int, words: str) -> Source:
    """Return a place in the megatron-core release that is installed beside us."""
    return Source(document=f"megatron-core 0.16.1 megatron/core/{path}", line=line, words=words)


def megatron_arguments(line: int, words: str, *, tag: str = "core_v0.16.1") -> Source:
    """Return a place in `validate_args` of Megatron-LM, which the 0.16.1 wheel does not hold."""
    document = f"Megatron-LM {tag} megatron/training/arguments.py"
    return Source(document=document, line=line, words=words)


def ours(why: str) -> Source:
    """Return ourselves as the source, and why."""
    return Source(document=f"{OURS}: {why}")
