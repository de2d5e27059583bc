"""The real `DeepSpeedConfig` of 0.19.8 takes what we render, and we refuse what it refuses."""

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from orchestrator import api
from orchestrator.catalog.cards import accelerator_of, cluster_card, model_card
from orchestrator.catalog.resolve import resolve
from orchestrator.engines.deepspeed.engine import CAPABILITIES, drafted
from orchestrator.engines.deepspeed.keys import RELEASES, forms_of
from orchestrator.engines.deepspeed.row import Job, document_of
from orchestrator.rules.table import violations
from orchestrator.specs.document import examined
from orchestrator.specs.run import RunSpec
from tests.engine.deepspeed_runs import VERSION, run_documents

ROOT = Path(__file__).parents[2]
SERVER = Path(__file__).with_name("deepspeed_config.py")
DRAWN = 2600
WANTED = 1000


@dataclass(frozen=True)
class Case:
    """A drawn run file, what we say of it, and the JSON that it would be."""

    job: Job
    ours: tuple[str, ...]
    json: dict[str, Any]


@dataclass(frozen=True)
class Answered:
    """Every case with DeepSpeed's answer, and the keys of its classes."""

    fields: dict[str, list[str]]
    pairs: list[tuple[Case, dict[str, Any]]]


@pytest.fixture(scope="module")
def answered() -> Answered:
    cases = drawn()
    questions = [
        {"world": one.job.layout.world_size, "pp": one.job.layout.pp, "json": one.json}
        for one in cases
    ]
    done = subprocess.run(
        [sys.executable, str(SERVER)],
        input="".join(json.dumps(one) + "\n" for one in questions),
        capture_output=True,
        text=True,
        timeout=250,
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        check=False,
    )
    fields, *answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(cases), done.stderr[-2000:]
    return Answered(fields=fields, pairs=list(zip(cases, answers, strict=True)))


def test_deepspeed_takes_every_json_that_we_write_and_reads_the_plan_in_it(answered):
    sound = [(case, answer) for case, answer in answered.pairs if not case.ours]

    wrong = [
        f"{answer['refused']}\n{json.dumps(case.json)}"
        for case, answer in sound
        if answer["refused"]
    ]
    assert not wrong, f"{len(wrong)} of {len(sound)}, the first:\n" + "\n".join(wrong[:3])
    assert len(sound) >= WANTED
    for case, answer in sound:
        read, layout = answer["read"], case.job.layout
        training = case.job.training
        passes = layout.num_microbatches(training.global_batch_size)
        batch = [training.global_batch_size, layout.micro_batch_size, passes, layout.dp]
        assert read["batch"] == batch
        assert read["stage"] == layout.zero_stage
        assert read["clipping"] == training.optimizer.clip_grad
        assert (read["bf16"], read["fp16"]) == tuple(
            training.precision.value == one for one in ("bf16", "fp16")
        )
        if layout.zero_stage:
            assert read["overlap"] == ("dp" in layout.overlap)


def test_what_deepspeed_refuses_is_refused_before_a_rank_is_started(answered):
    broken = [case for case, answer in answered.pairs if answer["refused"]]
    silent = [
        case
        for case, answer in answered.pairs
        if "ignore" in " ".join(case.ours) and not answer["refused"]
    ]

    assert all(case.ours for case in broken)
    assert len(broken) >= 300
    assert silent, "DeepSpeed takes a misspelled key of the top level in silence; we do not"


def test_keys_of_blocks_are_those_of_the_installed_classes(answered):
    for block, names in answered.fields.items():
        short = {name for name in names if f"stage3_{name}" in names}
        assert set(forms_of(VERSION, block)) == {*names} - GONE - short, block
    assert RELEASES[-1] == VERSION


GONE = {
    *("mics_shard_size", "mics_hierarchical_params_gather", "zeropp_loco_param"),
    "stage3_gather_fp16_weights_on_model_save",
}
"""Fields that the class still has and `DeepSpeedConfig` refuses, also beside another spelling."""


@cache
def drawn() -> list[Case]:
    """Return the same cases every time."""
    cases: list[Case] = []

    @seed(20261125)
    @settings(
        max_examples=DRAWN,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(document=run_documents())
    def collect(document: dict[str, Any]) -> None:
        cases.append(case_of(document))

    collect()
    return cases


def case_of(document: dict[str, Any]) -> Case:
    """Return what we say of a document, and the JSON that it would be, right or wrong."""
    hosts = document["cluster"]["hosts"]
    known = {"model": looked_up(document["model"]), "cluster": {"card": machine(), "hosts": hosts}}
    spec, shape = examined({**document, **known}, model=RunSpec)
    assert spec is not None, shape
    run = resolve(spec, file="drawn")
    assert run.layout is not None
    plan = replace(a_plan(), run=run, layout=run.layout)
    job = Job(plan=plan, version=VERSION)
    rules = tuple(map(str, violations(run, run.layout, capabilities=CAPABILITIES)))
    settings, problems = drafted(job)
    return Case(job=job, ours=(*rules, *problems), json=document_of(settings))


@cache
def looked_up(model: str) -> dict[str, Any]:
    """Return a card inline: to read its file again takes longer than all the rest."""
    return model_card(model).model_dump(mode="json", exclude_none=True)


@cache
def machine() -> dict[str, Any]:
    card = cluster_card("dgx-h100")
    accelerator = accelerator_of(card).model_dump(mode="json", exclude_none=True)
    return {**card.model_dump(mode="json", exclude_none=True), "accelerator": accelerator}


@cache
def a_plan() -> api.Plan:
    """Return a plan whose run and layout others take the place of."""
    text = "schema: 1\nname: r\nmodel: tiny-gpt\ncluster: {card: dgx-h100, hosts: 1}\n"
    text += "training: {sequence_length: 128, global_batch_size: 8, steps: 100}\nlayout: {}\n"
    return api.plan(api.read_run(text, file="r"), keep=1).plans[0]
