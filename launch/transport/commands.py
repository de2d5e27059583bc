"""Commands that are asked and answer: run to their end with a deadline, text in and out."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandAnswer:
    """What a command said; `exit_code` is None where the deadline passed and it was killed."""

    exit_code: int | None
    out: str
    err: str


def ask(argv: Sequence[str], *, text: str, timeout_s: float) -> CommandAnswer:
    """Run a command with `text` on its standard input; kill it when the time is over."""
    try:
        ended = subprocess.run(
            list(argv), input=text, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        return CommandAnswer(exit_code=None, out=_text(error.stdout), err=_text(error.stderr))
    return CommandAnswer(exit_code=ended.returncode, out=ended.stdout, err=ended.stderr)


def _text(output: object) -> str:
    return output.decode(errors="replace") if isinstance(output, bytes) else ""
