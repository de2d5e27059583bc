"""The real `parse_args`, `validate_args` and TransformerConfig of three wheels take what we render.

Needs Python 3.12, where the wheels hold `megatron.training`: `make test-py312`.
"""

import json
import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, seed, settings

from orchestrator import api
from orchestrator.engines.megatron_lm.engine import MegatronLmEngine
from orchestrator.errors import EngineRefused, InvalidFile
from orchestrator.records.bundle import EngineBundle
from orchestrator.records.plan import Plan
from tests.engine.megatron_lm_reading import meant, read, said_by_namespace
from tests.engine.megatron_lm_runs import run_documents

pytestmark = [pytest.mark.py312, pytest.mark.timeout(1800)]

RELEASES = ("0.17.1", "0.18.2", "0.19.2")
DRAWN = 1500
"""Run files of each release; more than a third of them are sound."""

WANTED = 500
"""Sound ones at least, of each release: 1,500 together."""

PARSER = Path(__file__).with_name("megatron_lm_parser.py")


@dataclass(frozen=True)
class Case:
    """A drawn run file, what we say of it, and its rendered command."""

    document: dict
    ours: tuple[str, ...]
    plan: Plan
    bundle: EngineBundle


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheels")
    for release in RELEASES:
        name = f"megatron-core=={release}"
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", name, "-d", folder]
        subprocess.run(command, check=True, timeout=300)
    for wheel in folder.glob("*.whl"):
        zipfile.ZipFile(wheel).extractall(folder / wheel.name.split("-")[1])
    return folder


@pytest.mark.parametrize("release", RELEASES)
def test_real_parser_accepts_what_we_accept(wheels, release):
    cases = drawn(release)
    sound = [case for case in cases if not case.ours]

    answers = asked(wheels / release, cases)

    wrong = [
        f"{answer['refused']}\n{json.dumps(case.document)}"
        for case, answer in zip(cases, answers, strict=True)
        if not case.ours and answer["refused"]
    ]
    assert not wrong, f"{len(wrong)} of {len(sound)}, the first:\n" + "\n".join(wrong[:3])
    assert len(sound) >= WANTED


@pytest.mark.parametrize("release", RELEASES)
def test_flag_table_is_the_parser_of_the_wheel(wheels, release):
    done = subprocess.run(
        [sys.executable, str(PARSER.with_name("megatron_lm_flags.py"))],
        env={**os.environ, "PYTHONPATH": str(wheels / release)},
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )

    table = json.loads((files("orchestrator.engines.megatron_lm") / "flags.json").read_text())
    ours = {
        name: {key: value for key, value in form.items() if key != "in"}
        for name, forms in table.items()
        for form in forms
        if release in form["in"]
    }
    assert json.loads(done.stdout) == ours


@pytest.mark.parametrize("release", RELEASES)
def test_real_parser_reads_the_plan_back(wheels, release):
    sound = [case for case in drawn(release) if not case.ours][:50]

    answers = asked(wheels / release, sound)

    for case, answer in zip(sound, answers, strict=True):
        assert read(said_by_namespace(answer["args"])) == meant(case.plan)


@cache
def drawn(release: str) -> list[Case]:
    """Return the same cases every time: our answer, and the command where one can be rendered."""
    cases: list[Case] = []

    @seed(20261123)
    @settings(
        max_examples=DRAWN,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(document=run_documents())
    def collect(document: dict) -> None:
        case = case_of(document, release)
        if case is not None:
            cases.append(case)

    collect()
    return cases


def case_of(document: dict, release: str) -> Case | None:
    engine = MegatronLmEngine()
    own = {"name": "megatron-lm", "version": release, "checkout": "/m"}
    document = {**document, "engine": {**document["engine"], **own}}
    try:
        run = api.read_run(yaml.safe_dump(document), file="drawn")
        plan = api.plan(run, capabilities=engine.capabilities(), keep=1).plans[0]
        bundle = engine.render(plan)
    except (InvalidFile, EngineRefused):
        return None
    problems = api.problems(run, layout=plan.layout, capabilities=engine.capabilities())
    return Case(document=document, ours=tuple(map(str, problems)), plan=plan, bundle=bundle)


def asked(wheel: Path, cases: list[Case]) -> list[dict]:
    questions = [
        {
            "argv": case.bundle.argv[2:],
            "env": dict(case.bundle.env),
            "world_size": case.bundle.world_size,
        }
        for case in cases
    ]
    done = subprocess.run(
        [sys.executable, str(PARSER)],
        input=json.dumps(questions),
        env={**os.environ, "PYTHONPATH": str(wheel)},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)
