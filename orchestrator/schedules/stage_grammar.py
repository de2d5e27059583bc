"""Megatron's layout text (`--pipeline-model-parallel-layout`), unrolled and rolled up.

`E` embedding, `t` decoder layer, `m` one multi-token-prediction layer, `L` loss. `|` ends a
stage, `x*3` is three times the letter or bar before it, `(...)*3` three times a part, commas
are for the eye. `Ettt|(tt|)*29,m|L` is a stage `Ettt`, 29 stages `tt`, a stage `m`, a stage `L`.

Megatron unrolls by two substitutions, parentheses first. What it lets through by accident is
refused here: parentheses in parentheses, and a multiplier after a multiplier.
"""

import re
from collections.abc import Sequence
from itertools import groupby

from orchestrator.errors import UsageError

MAX_LETTERS = 100_000
"""A text may not unroll to more: a mistyped number would fill the memory."""

_PART = re.compile(
    r"\((?P<group>[^()]+)\)\*(?P<times>[0-9]{1,6})"
    r"|(?P<letter>[EtmL|])(?:\*(?P<count>[0-9]{1,6}))?"
)
_SHORTEST_RUN = 4  # ttt is easier to read than t*3


def unrolled(text: str) -> tuple[str, ...]:
    """Return the letters of each stage, all multiplications done.

    Raises:
        UsageError: the text is not of the grammar, or unrolls to more than `MAX_LETTERS`.
    """
    return tuple(_multiplied(text.replace(",", "")).split("|"))


def rolled_up(stages: Sequence[str]) -> str:
    """Return a short text that unrolls to the given letters of each stage."""
    parts = []
    for letters, run in groupby(stages[:-1]):
        stage = f"{_short(letters)}|"
        count = len(list(run))
        parts.append(min(stage * count, f"({stage})*{count},", key=len))
    return "".join(parts) + _short(stages[-1])


def _multiplied(text: str) -> str:
    pieces: list[str] = []
    num_letters = place = 0
    while place < len(text):
        match = _PART.match(text, place)
        if match is None:
            raise _unreadable(text, place)
        piece = _multiplied(match["group"]) if match["group"] else match["letter"]
        times = int(match["times"] or match["count"] or 1)
        num_letters += len(piece) * times
        if num_letters > MAX_LETTERS:
            raise UsageError(
                problem=f"stage layout '{text}' unrolls to more than {MAX_LETTERS:,} letters",
                instead="look for a mistyped number",
            )
        pieces.append(piece * times)
        place = match.end()
    return "".join(pieces)


def _unreadable(text: str, place: int) -> UsageError:
    if text[place] == "(":
        problem = f"stage layout '{text[place:]}': a part in parentheses ends in )*n"
        instead = "(t|)*4; parentheses do not nest"
    else:
        problem = f"stage layout '{text}': '{text[place]}' cannot stand after '{text[:place]}'"
        instead = "letters E t m L, a bar | between stages, x*n and (...)*n, commas anywhere"
    return UsageError(problem=problem, instead=instead)


def _short(letters: str) -> str:
    """Return the letters of a stage with long runs as multiplications."""
    runs = ((letter, len(list(run))) for letter, run in groupby(letters))
    return "".join(
        letter * count if count < _SHORTEST_RUN else f"{letter}*{count}" for letter, count in runs
    )
