"""Entry point of the dry run: reads questions, asks the installed engine, writes its answers.

Standard input holds one question a line (JSON), standard output one answer a line: first the
engine's version, then an answer for each question in order. What an engine itself prints goes to
standard error.
"""

import json
import sys
import traceback
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import asdict, replace
from importlib import metadata
from typing import Any, Final

from launch.clock import SystemClock
from launch.workers.closed_json import read_object
from launch.workers.engine_check.questions import Answer, Question
from orchestrator.errors import ExitCode

_PACKAGES: Final = {"megatron-core": "megatron-core", "deepspeed": "deepspeed"}

Ask = Callable[[Question], Answer]


def main() -> None:
    """Answer the questions on standard input for the engine that is named."""
    sys.exit(run(sys.argv[1], sys.stdin, sys.stdout))


def run(engine: str, questions: Any, answers: Any) -> ExitCode:  # noqa: ANN401  text streams
    """Answer questions; a line that says `missing` or `broken` ends the answers."""
    try:
        version = metadata.version(_PACKAGES[engine])
    except metadata.PackageNotFoundError:
        _write(answers, {"missing": f"{engine} is not installed"})
        return ExitCode.OK
    _write(answers, {"version": version})
    warnings.filterwarnings("ignore")
    with redirect_stdout(sys.stderr):
        try:
            ask = _asker(engine)
            for line in questions:
                _write(answers, asdict(_timed(ask, read_object(Question, json.loads(line)))))
        except Exception as error:  # noqa: BLE001  whatever it is, the engine is not as we know it
            traceback.print_exc()
            _write(answers, {"broken": f"{type(error).__name__}: {error}"})
    return ExitCode.OK


def _asker(engine: str) -> Ask:
    if engine == "megatron-core":
        from launch.workers.engine_check import megatron_meta

        recorder = megatron_meta.install()
        from launch.workers.engine_check import megatron_rank

        return lambda question: megatron_rank.answer(question, recorder)
    from launch.workers.engine_check import deepspeed_rank

    deepspeed_rank.prepare()
    return deepspeed_rank.answer


def _timed(ask: Ask, question: Question) -> Answer:
    clock = SystemClock()
    began_s = clock.monotonic_s()
    return replace(ask(question), seconds=clock.monotonic_s() - began_s)


def _write(answers: Any, record: dict[str, object]) -> None:  # noqa: ANN401  a text stream
    answers.write(json.dumps(record) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
