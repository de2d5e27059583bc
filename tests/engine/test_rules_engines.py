"""Broken run files against the installed engines: what they refuse, the table refuses too."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.records.engine import EngineCapabilities
from orchestrator.records.run import ResolvedRun, padded_vocab_size
from orchestrator.rules.table import violations
from tests.unit.broken_runs import (
    CASES,
    DENSE,
    PINNED,
    SPEED,
    Document,
    applied,
    changed,
    found,
    run_of,
)

Ask = Callable[[ResolvedRun], str | None]

TINY: Document = changed(
    DENSE,
    {
        "model": "tiny-gpt",
        "training.sequence_length": 128,
        "cluster": {"card": "local-cpu", "gpus": 8},
    },
)
TINY["layout"] = {"tp": 2, "pp": 2}


def question(run: ResolvedRun) -> dict[str, Any]:
    layout, training = run.layout, run.training
    assert layout is not None
    optimizer = training.optimizer
    sizes = (training.global_batch_size, *(p.global_batch_size for p in training.batch_ramp))
    return {
        "world": run.machine.world_size,
        "layout": asdict(layout),
        "model": run.model.model_dump(mode="json"),
        "sequence_length": training.sequence_length,
        "precision": training.precision,
        "fp8_recipe": training.fp8_recipe,
        "batches": sizes,
        "warmup_steps": optimizer.warmup_steps_of(run.steps),
        "decay_steps": optimizer.decay_steps_of(run.steps),
        "padded_vocab_size": padded_vocab_size(run.model, training, tp=layout.tp),
    }


def asked(script: str) -> Iterator[Ask]:
    """Start an engine once; its import is most of the time."""
    path = Path(__file__).with_name(script)
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=root,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
    )

    def ask(run: ResolvedRun) -> str | None:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(question(run)) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        assert line, f"{script} ended: run it by hand with this line:\n{json.dumps(question(run))}"
        return json.loads(line)

    yield ask
    process.communicate(timeout=60)


@pytest.fixture(scope="module")
def megatron() -> Iterator[Ask]:
    yield from asked("rules_megatron.py")


@pytest.fixture(scope="module")
def deepspeed() -> Iterator[Ask]:
    yield from asked("rules_deepspeed.py")


def refused(run: ResolvedRun, capabilities: EngineCapabilities) -> tuple[str, ...]:
    assert run.layout is not None
    return tuple(p.rule for p in violations(run, run.layout, capabilities=capabilities))


def agreed(run: ResolvedRun, ask: Ask, capabilities: EngineCapabilities) -> tuple[bool, bool]:
    """Return whether we and whether the engine refuses; fail where only the engine does."""
    theirs, ours = ask(run), refused(run, capabilities)
    assert theirs is None or ours, f"only the engine refuses: {theirs}\n{run.layout}"
    return bool(ours), theirs is not None


VALUES: dict[str, list[Any]] = {
    "layout.tp": [1, 2, 3, 4, 5, 8, 16],
    "layout.pp": [1, 2, 3, 4, 8],
    "layout.vpp": [1, 2, 3],
    "layout.cp": [1, 2, 3, 4],
    "layout.ep": [1, 2, 3, 8],
    "layout.etp": [1, 2, None],
    "layout.micro_batch_size": [1, 2, 3],
    "layout.zero_replicas": [1, 2, 3],
    "layout.sequence_parallel": [False, True],
    "layout.stage_layout": [None, "E|(t|)*40,L", "Et*10|(t*10|)*2t*10L", "Ett|ttL", "Et|t|t|tL"],
    "layout.recompute": [
        None,
        {"granularity": "full"},
        {"granularity": "full", "layers": 7},
        {"granularity": "selective", "modules": ["mlp", "moe_act"]},
        {"granularity": "selective", "modules": ["layernorm", "mla_up_proj"]},
        {"granularity": "selective", "modules": ["mlpp"]},
    ],
    "training.sequence_length": [126, 127, 128],
    "training.global_batch_size": [1, 48, 255, 256],
    "training.optimizer": [{}, {"warmup_steps": 50, "decay_steps": 40}, {"warmup_steps": 100}],
    "training.precision": ["fp32", "bf16"],
    "model.num_query_groups": [1, 2, 4],
    "model.ffn_hidden_size": [512, 514],
    "model.linear_bias": [False, True],
    "model.num_layers": [4, 5, 40],
}
"""What is drawn, good and bad; bad ones a little more often."""

SMALL_EXPERTS = changed(
    TINY,
    {
        "model.moe": {
            "num_experts": 8,
            "router_topk": 2,
            "moe_ffn_hidden_size": 96,
            "shared_expert_intermediate_size": 64,
        },
        "model.linear_bias": False,
        "layout": {"tp": 2, "ep": 2, "etp": 1, "sequence_parallel": True},
    },
)


def mutated(chooser: Random, number: int) -> Document:
    base = (TINY, SMALL_EXPERTS)[number % 2]
    keys = chooser.sample(sorted(VALUES), k=chooser.randint(2, 5))
    return changed(base, {key: chooser.choice(VALUES[key]) for key in keys})


def drawn(count: int) -> list[Document]:
    chooser = Random(3)
    return [mutated(chooser, number) for number in range(count)]


DRAWN = 400


def test_what_megatron_refuses_of_the_cases_of_the_table_is_refused(megatron: Ask):
    cases = [case for case in CASES if case.engine in {None, PINNED}]

    counted = [agreed(run_of(case.document), megatron, PINNED) for case in cases]

    assert sum(theirs for _, theirs in counted) >= 40


def test_of_drawn_run_files_megatron_refuses_none_that_the_table_accepts(megatron: Ask):
    counted = [agreed(run_of(document), megatron, PINNED) for document in drawn(DRAWN)]

    assert sum(ours for ours, _ in counted) >= 300  # broken run files
    assert sum(theirs for _, theirs in counted) >= 150
    assert sum(not ours for ours, _ in counted) >= 20  # and good ones, which both accept


@settings(max_examples=60, derandomize=True, deadline=None, database=None)
@given(
    base=st.sampled_from([TINY, SMALL_EXPERTS]),
    values=st.dictionaries(st.sampled_from(sorted(VALUES)), st.integers(0, 6), max_size=6),
)
def test_no_run_file_is_refused_by_megatron_alone(
    megatron: Ask, base: Document, values: dict[str, int]
):
    chosen = {key: VALUES[key][number % len(VALUES[key])] for key, number in values.items()}

    agreed(run_of(changed(base, chosen)), megatron, PINNED)


def test_what_a_message_suggests_is_taken_by_megatron_too(megatron: Ask):
    tried = 0
    for case in [case for case in CASES if case.engine in {None, PINNED}]:
        for rule, breach in found(case.document, PINNED):
            if rule != case.rule:
                continue
            for change in breach.passing[:1]:
                run = run_of(applied(case.document, change))
                _, theirs = agreed(run, megatron, PINNED)
                tried += not theirs

    assert tried >= 60


SPEED_VALUES: dict[str, list[Any]] = {
    "layout.pp": [1, 2, 3],
    "layout.zero_stage": [0, 1, 2, 3],
    "layout.cp": [1, 2, 3, 4],
    "layout.micro_batch_size": [1, 2, 3],
    "training.global_batch_size": [1, 16, 24],
}


def test_of_all_small_run_files_deepspeed_refuses_none_that_the_table_accepts(deepspeed: Ask):
    base = changed(TINY, {"layout": {}, "model.num_query_groups": 2})
    engine = replace(SPEED, zero_stages=(0, 1, 2, 3), axes=("pp", "cp"))

    documents = [
        changed(base, dict(zip(SPEED_VALUES, chosen, strict=True)))
        for chosen in product(*SPEED_VALUES.values())
    ]
    counted = [agreed(run_of(document), deepspeed, engine) for document in documents]

    assert sum(ours for ours, _ in counted) >= 300
    assert sum(theirs for _, theirs in counted) >= 150
    assert sum(not ours for ours, _ in counted) >= 5


def published(model: str, hosts: int, training: dict[str, Any], layout: dict[str, Any]) -> Document:
    return {
        "schema": 1,
        "name": "published",
        "model": model,
        "cluster": {"card": "dgx-h100", "hosts": hosts},
        "training": {"tokens": 15_600_000_000_000, **training},
        "layout": {"sequence_parallel": True, **layout},
    }


LLAMA = {
    "tp": 8,
    "pp": 16,
    "vpp": 8,
    "stage_layout": "E|(t|)*126,L",
    "micro_batch_size": 1,
    "overlap": ["dp", "pp", "tp"],
}
PUBLISHED = {
    # Llama 3, table 4; the third row is garbled in copies, only dp 8 multiplies out.
    "405b-8192": published(
        *("llama-3.1-405b", 1024),
        *({"sequence_length": 8192, "global_batch_size": 2048}, LLAMA),
    ),
    "405b-16384": published(
        *("llama-3.1-405b", 2048),
        *({"sequence_length": 8192, "global_batch_size": 2048}, LLAMA),
    ),
    "405b-131072": published(
        *("llama-3.1-405b", 2048),
        *({"sequence_length": 131_072, "global_batch_size": 128}, {**LLAMA, "cp": 16}),
    ),
    "175b-1024": published(
        *("gpt3-175b", 128),
        *({"sequence_length": 2048, "global_batch_size": 1536}, {"tp": 8, "pp": 8}),
    ),
}
DATA_PARALLEL = {"405b-8192": 64, "405b-16384": 128, "405b-131072": 8, "175b-1024": 16}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_layouts_are_accepted_by_us_and_by_megatron(megatron: Ask, name: str):
    run = run_of(PUBLISHED[name])

    assert run.layout is not None
    assert run.layout.dp == DATA_PARALLEL[name]
    assert agreed(run, megatron, PINNED) == (False, False)
