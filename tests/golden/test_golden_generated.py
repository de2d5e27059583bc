"""What `generate` writes for every run file of parallel_configs, byte by byte.

Left out are the texts with modelled numbers (README.md, plan.json), which move with the cost model.
"""

import difflib
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from orchestrator import api
from orchestrator.cli.generated_script import arguments_text
from orchestrator.engines.megatron_lm.flags import RELEASES

ROOT = Path(__file__).resolve().parent.parent.parent
FILES = tuple(sorted((ROOT / "parallel_configs").glob("*.yaml")))
MODELLED = {"README.md", "plan.json", "run.yaml"}


def engine_of(path: Path) -> str:
    return yaml.safe_load(path.read_text(encoding="utf-8"))["engine"]["name"]


def named(path: Path) -> str:
    return path.stem


@pytest.mark.parametrize("path", FILES, ids=named)
def test_generated_folder_of_a_published_run_file(llmorch, golden, monkeypatch, tmp_path, path):
    monkeypatch.chdir(ROOT)

    answer = llmorch("generate", path.relative_to(ROOT), "--to", tmp_path)

    assert answer.code == 0, answer.err
    written = {str(one.relative_to(tmp_path)) for one in tmp_path.rglob("*") if one.is_file()}
    for name in sorted(written - MODELLED):
        golden(f"generated/{path.stem}/{name}", (tmp_path / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "path", [path for path in FILES if engine_of(path) == "megatron-lm"], ids=named
)
def test_older_releases_differ_by_exactly_these_lines(golden, monkeypatch, path):
    monkeypatch.chdir(ROOT)
    texts = {release: arguments_of(path, release) for release in RELEASES}

    lines = [
        line
        for older, newer in pairwise(RELEASES)
        for line in (f"{older} -> {newer}", *changes(texts[older], texts[newer]))
    ]

    golden(f"generated/{path.stem}/releases.txt", "\n".join(lines) + "\n")


def arguments_of(path: Path, release: str) -> str:
    engine = api.engine_named("megatron-lm")
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    document["engine"]["version"] = release
    run = api.read_run(yaml.safe_dump(document), file=path.name)
    plan = api.plan(run, capabilities=engine.capabilities(), keep=1).plans[0]
    return arguments_text(engine.render(plan))


def changes(older: str, newer: str) -> list[str]:
    found = difflib.unified_diff(older.splitlines(), newer.splitlines(), n=0, lineterm="")
    return [f"  {line}" for line in found if line[0] in "+-" and line[:3] not in {"+++", "---"}]
