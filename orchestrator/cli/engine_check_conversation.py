"""Talks to the process in which an installed engine answers, started when it is asked."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib import metadata
from types import MappingProxyType

from launch.transport.commands import CommandAnswer
from launch.transport.conversation import converse
from launch.workers.closed_json import read_object
from launch.workers.engine_check.questions import Answer
from orchestrator.cli.engine_check_questions import DEEPSPEED, MEGATRON, Asked
from orchestrator.errors import EngineRefused, EngineUnasked, HostError

TIMEOUT_S = 1800.0
"""Importing an engine takes up to twenty seconds on a cold disk, a rank of 16,384 some more."""

PINNED = MappingProxyType({MEGATRON: "0.16.1", DEEPSPEED: "0.19.8"})
"""The versions that the questions were written for."""

_WORKER = "launch.workers.engine_check.dry_run_main"

Told = Callable[[int, int], None]
"""Called with how many answers there are of how many questions."""


def is_installed(engine: str) -> bool:
    """Return whether a package of that name is installed beside llmorch."""
    try:
        metadata.version(engine)
    except metadata.PackageNotFoundError:
        return False
    return True


def conversation(engine: str, asked: Sequence[Asked], told: Told) -> tuple[str, tuple[Answer, ...]]:
    """Return the installed version and the answer to each question."""
    heard: list[str] = []

    def hear(line: str) -> None:
        heard.append(line)
        told(len(heard), len(asked) + 1)

    told(0, len(asked) + 1)
    text = "".join(json.dumps(asdict(one.question)) + "\n" for one in asked)
    # -P: a folder `launch` or `torch` in the working folder must not be imported instead.
    argv = [sys.executable, "-P", "-m", _WORKER, engine]
    ended = converse(argv, text=text, timeout_s=TIMEOUT_S, heard=hear)
    first, *rest = [json.loads(line) for line in heard] or [{}]
    if "missing" in first:
        raise _missing(engine)
    version = str(first.get("version", ""))
    answers = tuple(read_object(Answer, one) for one in rest if "broken" not in one)
    if len(answers) != len(asked):
        raise _misunderstood(f"{engine} {version}".rstrip(), rest, ended)
    return version, answers


def _missing(engine: str) -> HostError:
    return HostError(
        host="this machine",
        problem=f"{engine} is not installed, so it cannot be asked",
        instead=f"pip install 'llmorch[train]' installs {engine} {PINNED[engine]}, which needs no "
        "GPU for this; or leave --engine-check out",
    )


def _misunderstood(
    engine: str, answers: Sequence[dict[str, object]], ended: CommandAnswer
) -> EngineRefused:
    """Return why an engine could not be asked: it is another version, it died, or took too long."""
    broken = [str(one["broken"]) for one in answers if "broken" in one]
    if broken:
        reason = broken[0]
    elif ended.exit_code is None:
        reason = f"no answer within {TIMEOUT_S:.0f} s"
    else:
        tail = ended.err.strip().splitlines()[-1:] or ["it said nothing"]
        reason = f"exit code {ended.exit_code}: {tail[0]}"
    known = ", ".join(f"{name} {version}" for name, version in PINNED.items())
    return EngineUnasked(engine=engine, reason=reason, instead=f"llmorch knows {known}")
