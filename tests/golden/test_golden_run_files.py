"""The run files of published layouts are what `plan --layout ... --out` writes, byte by byte."""

import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / "parallel_configs"
WRITTEN_BY = "# Written by: llmorch "


def _command(path: Path) -> str:
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix(WRITTEN_BY) if first.startswith(WRITTEN_BY) else ""


FILES = tuple(path for path in sorted(FOLDER.glob("*.yaml")) if _command(path))


def test_there_are_a_dozen_of_them():
    assert len(FILES) >= 12


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_its_own_command_writes_it_again(llmorch, request, monkeypatch, tmp_path, path):
    monkeypatch.chdir(ROOT)
    words = shlex.split(_command(path))
    written = tmp_path / path.name
    words[words.index("--out") + 1] = str(written)

    answer = llmorch(*words)

    assert answer.code == 0, answer.err
    if request.config.getoption("--update-golden"):
        path.write_bytes(written.read_bytes())
    assert written.read_bytes() == path.read_bytes(), (
        "if that is meant: ./test.sh tests/golden --update-golden"
    )
