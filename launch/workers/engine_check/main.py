"""Entry point of the engine check: reads cases, runs the installed engine, writes what it did.

Standard input holds one case a line (JSON), standard output one answer a line: first the
engine's version, then a recording for each case in order. What an engine itself prints goes to
standard error.
"""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, redirect_stdout
from dataclasses import asdict
from importlib import metadata
from typing import Any

from launch.workers.engine_check.cases import Case, P2p, Recording
from orchestrator.errors import ExitCode

_PACKAGES = {"megatron-core": "megatron-core", "deepspeed": "deepspeed", "torch": "torch"}


def main() -> None:
    """Answer the cases on standard input for the engine that is named."""
    sys.exit(run(sys.argv[1], sys.stdin, sys.stdout))


def run(engine: str, cases: Any, answers: Any) -> ExitCode:  # noqa: ANN401  text streams
    """Answer cases; a line that says `missing` or `broken` ends the answers."""
    try:
        version = metadata.version(_PACKAGES[engine])
    except metadata.PackageNotFoundError:
        _write(answers, {"missing": f"{engine} is not installed"})
        return ExitCode.OK
    _write(answers, {"version": version})
    with ExitStack() as stack, redirect_stdout(sys.stderr):
        try:
            record = _recorder(engine, stack)
            for case in _cases(cases):
                _write(answers, asdict(record(case)))
        except Exception as error:  # noqa: BLE001  whatever it is, the engine is not as we know it
            _write(answers, {"broken": f"{type(error).__name__}: {error}"})
    return ExitCode.OK


def _recorder(engine: str, stack: ExitStack) -> Callable[[Case], Recording]:
    if engine == "megatron-core":
        from launch.workers.engine_check import megatron

        return stack.enter_context(megatron.recording())
    if engine == "deepspeed":
        from launch.workers.engine_check import deepspeed_schedule

        return deepspeed_schedule.record
    from launch.workers.engine_check import torch_pipelining

    return torch_pipelining.record


def _cases(lines: Any) -> Iterator[Case]:  # noqa: ANN401  a text stream
    for line in lines:
        fields = json.loads(line)
        yield Case(**{**fields, "p2p": P2p(fields["p2p"])})


def _write(answers: Any, record: dict[str, object]) -> None:  # noqa: ANN401  a text stream
    answers.write(json.dumps(record) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
