"""A Python program, run in this process as a fresh interpreter would run it."""

import builtins
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Self

_SHEBANG_BYTES = 512


class ForeignProgramError(Exception):
    """The command is not one that this interpreter runs; `reason` says why."""

    def __init__(self, *, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A script and its words."""

    script: Path
    words: tuple[str, ...]

    @classmethod
    def of(cls, argv: Sequence[str]) -> Self:
        """The program of a command: `python script ...`, or a script that names this interpreter.

        Raises:
            ForeignProgramError: another interpreter runs it, or this one with options.
        """
        first, *words = argv
        if not _is_interpreter(first):
            _require_own_script(Path(first))
            return cls(script=Path(first), words=tuple(words))
        if not words or words[0].startswith("-"):
            raise ForeignProgramError(reason="the interpreter is started with options")
        return cls(script=Path(words[0]), words=tuple(words[1:]))

    def run(self) -> None:
        """Run it as `__main__`; whatever it raises ends this process as it would end its own.

        The module stays (`runpy` takes it away again): what runs at exit still finds its globals.
        """
        code = compile(self.script.read_bytes(), str(self.script), "exec", dont_inherit=True)
        main = ModuleType("__main__")
        main.__dict__.update(__file__=str(self.script), __builtins__=builtins)
        sys.modules["__main__"] = main
        sys.argv = [str(self.script), *self.words]
        if not sys.flags.safe_path:
            sys.path[0] = str(self.script.resolve().parent)
        exec(code, main.__dict__)  # noqa: S102 - it is the user's own program


def _is_interpreter(word: str) -> bool:
    """Whether a command's first word is this interpreter, by any name it has in its folder."""
    ours = Path(sys.executable)
    is_beside = os.path.abspath(Path(word).parent) == os.path.abspath(ours.parent)  # noqa: PTH100
    return is_beside and Path(word).name.startswith("python") and Path(word).exists()


def _require_own_script(script: Path) -> None:
    try:
        with script.open("rb") as file:
            first_line = file.read(_SHEBANG_BYTES).partition(b"\n")[0]
    except OSError as error:
        raise ForeignProgramError(reason=f"{script}: {error.strerror}") from None
    interpreter = first_line.removeprefix(b"#!").decode(errors="replace").strip()
    if not (first_line.startswith(b"#!") and _is_interpreter(interpreter)):
        raise ForeignProgramError(reason=f"{script} is not a script of {sys.executable}")
