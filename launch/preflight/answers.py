"""What a host answered to `launch.remote.probe`, checked once on arrival.

A host may answer anything: whatever is not of the expected shape is `Untold`, and nothing of it
reaches further.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")
MARK = "llmorch-answer "
STEP_MARK = "llmorch-asks "


@dataclass(frozen=True, slots=True)
class Untold:
    """A host could not find something out, or said something else."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuState:
    """The GPUs of a host: used and total MiB of each by index, and who computes on them."""

    memory_mib: tuple[tuple[int, int, int], ...]
    pids: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostAnswers:
    """One host's answers; a fault is None where all is well, and so are `gpus` without need."""

    host: str
    time_s: float
    packages: Mapping[str, str | None] | Untold
    programs: Mapping[str, str | None] | Untold
    folder: str | Untold | None
    shared: Mapping[str, str | None] | Untold
    free_bytes: int | Untold
    controller: str | Untold | None
    port: str | Untold | None
    rendezvous: str | Untold | None
    own_address: str | None
    gpus: GpuState | Untold | None
    others: tuple[tuple[int, str], ...] | Untold


def answers_in(out: str) -> HostAnswers | None:
    """The answers in what a host printed; login scripts may have printed before and after."""
    lines = [line for line in out.splitlines() if line.startswith(MARK)]
    if not lines:
        return None
    try:
        given = json.loads(lines[-1].removeprefix(MARK))
        return _answers(given)
    except (ValueError, TypeError, KeyError):
        return None


def last_step(err: str) -> str | None:
    """The question at which a host fell silent."""
    steps = [line for line in err.splitlines() if line.startswith(STEP_MARK)]
    return steps[-1].removeprefix(STEP_MARK) if steps else None


def _answers(given: Mapping[str, Any]) -> HostAnswers:
    names = _read(given, "names", _mapping)
    rendezvous = names if isinstance(names, Untold) else names["rendezvous"]
    own_address = None if isinstance(names, Untold) else names["own"]
    return HostAnswers(
        host=str(given["host"]),
        time_s=float(given["time_s"]),
        packages=_read(given, "packages", _mapping),
        programs=_read(given, "programs", _mapping),
        folder=_read(given, "folder", _text),
        shared=_read(given, "shared", _mapping),
        free_bytes=_read(given, "free_bytes", int),
        controller=_read(given, "controller", _text),
        port=_read(given, "port", _text),
        rendezvous=rendezvous,
        own_address=own_address,
        gpus=_read(given, "gpus", _gpus),
        others=_read(given, "others", _others),
    )


def _read(given: Mapping[str, Any], name: str, read: Callable[[Any], T]) -> T | Untold:
    if name not in given:
        return Untold("it did not answer")
    value = given[name]
    if isinstance(value, dict) and "untold" in value:
        return Untold(str(value["untold"]))
    try:
        return read(value)
    except (ValueError, TypeError, KeyError, AttributeError):
        return Untold(f"it answered {value!r}")


def _text(value: Any) -> str | None:  # noqa: ANN401 - whatever came over the wire
    return None if value is None else str(value)


def _mapping(value: Any) -> Mapping[str, str | None]:  # noqa: ANN401
    return {str(key): _text(one) for key, one in value.items()}


def _gpus(value: Any) -> GpuState | None:  # noqa: ANN401
    if value is None:
        return None
    return GpuState(
        memory_mib=tuple((int(i), int(used), int(total)) for i, used, total in value["memory_mib"]),
        pids=tuple(int(pid) for pid in value["pids"]),
    )


def _others(value: Any) -> tuple[tuple[int, str], ...]:  # noqa: ANN401
    return tuple((int(pid), str(run)) for pid, run in value)
