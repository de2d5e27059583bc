"""A layout as a flag says it: `tp=8,pp=16,vpp=8,mbs=1,overlap=dp+tp,recompute=full:2`.

Names are the keys of `layout` in a run file, and short ones: mbs, zero, replicas, sp, g, stages. A
value may hold commas itself (`stages=E|(t|)*126,L`). `recompute` is none, full, full:N layers of a
stage, or modules joined by +; `overlap` is none, or axes joined by +.
"""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

from orchestrator.errors import Problem, nearest
from orchestrator.specs.choices import OverlapAxis, RecomputeGranularity
from orchestrator.specs.layout import LayoutSpec

_WORD = re.compile(r"(?:^|,)\s*([a-z_]+)\s*=")

SHORT: Mapping[str, str] = MappingProxyType(
    {
        "mbs": "micro_batch_size",
        "zero": "zero_stage",
        "replicas": "zero_replicas",
        "sp": "sequence_parallel",
        "g": "microbatch_group_size",
        "stages": "stage_layout",
    }
)
"""Short names of keys."""

DP = "dp"
"""May be said as well, and is held against what follows from the ranks."""

_SWITCH: Mapping[str, bool] = MappingProxyType(
    {"true": True, "on": True, "yes": True, "1": True, "false": False, "off": False, "no": False}
)


def values_in(text: str) -> tuple[dict[str, object], tuple[Problem, ...]]:
    """Return the keys of `layout` (and dp) that a text gives, and what is wrong with it."""
    values: dict[str, object] = {}
    problems: list[Problem] = []
    found = list(_WORD.finditer(text))
    if not found or found[0].start() != 0:
        return {}, (Problem(key="", message=f"'{text}' is not like tp=8,pp=8,mbs=1"),)
    ends = [match.start() for match in found[1:]] + [len(text)]
    for match, end in zip(found, ends, strict=True):
        name = SHORT.get(match[1], match[1])
        said = text[match.end() : end].strip()
        try:
            values[name] = _value(name, said)
        except ValueError as error:
            problems.append(Problem(key=match[1], message=str(error), possible=_possible(name)))
    return values, tuple(problems)


def _value(name: str, said: str) -> object:
    if name != DP and name not in LayoutSpec.model_fields:
        msg = "unknown name"
        raise ValueError(msg)
    reader = _READERS.get(name, _whole)
    return reader(said)


def _possible(name: str) -> str:
    known = {*LayoutSpec.model_fields, *SHORT, DP}
    if name not in known:
        return nearest(name, known)
    return _SHAPES.get(name, "a whole number, 1 or more")


def _whole(said: str) -> int:
    if not said.isdecimal():
        msg = f"'{said}' is not a whole number"
        raise ValueError(msg)
    return int(said)


def _switch(said: str) -> bool:
    if said not in _SWITCH:
        msg = f"'{said}' is neither on nor off"
        raise ValueError(msg)
    return _SWITCH[said]


def _overlap(said: str) -> tuple[str, ...]:
    axes = () if said == "none" else tuple(said.split("+"))
    wrong = sorted(set(axes) - set(OverlapAxis))
    if wrong:
        msg = f"'{wrong[0]}' is no axis that overlaps"
        raise ValueError(msg)
    return axes


def _recompute(said: str) -> dict[str, object]:
    kind, _, layers = said.partition(":")
    if kind == RecomputeGranularity.NONE.value:
        return {"granularity": kind}
    if kind == RecomputeGranularity.FULL.value:
        return {"granularity": kind, **({"layers": _whole(layers)} if layers else {})}
    return {"granularity": RecomputeGranularity.SELECTIVE.value, "modules": tuple(said.split("+"))}


_READERS: Mapping[str, Callable[[str], object]] = MappingProxyType(
    {
        "sequence_parallel": _switch,
        "overlap": _overlap,
        "recompute": _recompute,
        "stage_layout": str,
        "schedule": str,
        "offload": str,
        "cp_comm_type": str,
    }
)

_SHAPES: Mapping[str, str] = MappingProxyType(
    {
        "sequence_parallel": "on or off",
        "overlap": "none, or axes joined by +: dp+pp+tp",
        "recompute": "none, full, full:2, or modules joined by +",
    }
)
