"""The engine check's conversation: an engine that is absent, and one that is not as we know it."""

import json
from importlib import metadata
from io import StringIO

import pytest

from launch.workers.engine_check import main

CASE = {
    "engine": "deepspeed",
    "schedule": "1f1b",
    "pp": 2,
    "vpp": 1,
    "num_microbatches": 3,
    "microbatch_group_size": 1,
    "rank": 1,
    "p2p": "batched",
}


def answers(engine: str) -> list[dict]:
    out = StringIO()
    main.run(engine, StringIO(json.dumps(CASE) + "\n"), out)
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_an_absent_engine_is_said_to_be_missing(monkeypatch):
    def absent(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)

    assert answers("deepspeed") == [{"missing": "deepspeed is not installed"}]


@pytest.mark.parametrize(
    "error", [AttributeError("_step_to_micro_batch"), ImportError("moved"), TypeError("arguments")]
)
def test_an_engine_that_is_not_as_we_know_it_ends_the_answers_with_a_reason(monkeypatch, error):
    def broken(*_: object) -> object:
        raise error

    monkeypatch.setattr(metadata, "version", lambda _: "1.2")
    monkeypatch.setattr(main, "_recorder", broken)

    first, last = answers("deepspeed")

    assert first == {"version": "1.2"}
    assert last == {"broken": f"{type(error).__name__}: {error}"}
