"""What a user is told when an engine cannot be asked; no engine is started here."""

import json

import pytest

from launch.transport.commands import CommandAnswer
from orchestrator import api
from orchestrator.cli import engine_check, engine_check_conversation
from orchestrator.cli.engine_check import EngineAnswer, Finding
from orchestrator.cli.engine_check_conversation import conversation
from orchestrator.cli.engine_check_questions import (
    DEEPSPEED,
    MEGATRON,
    Job,
    megatron_questions,
    unasked_of_deepspeed,
)
from orchestrator.errors import EngineRefused, ExitCode, HostError

RUN = """
schema: 1
name: toy
model: tiny-gpt
cluster: {card: dgx-a100-80, gpus: 8}
training: {sequence_length: 32, global_batch_size: 96, steps: 100, precision: bf16}
layout: {tp: 2, pp: 2}
"""


@pytest.fixture
def asked():
    run = api.read_run(RUN, file="run.yaml")
    return megatron_questions(Job(run=run, layout=run.layout))


def says(monkeypatch, *lines, exit_code=0, err=""):
    def converse(_, *, text, timeout_s, heard):
        for line in lines:
            heard(json.dumps(line))
        return CommandAnswer(exit_code=exit_code, out="", err=err)

    monkeypatch.setattr(engine_check_conversation, "converse", converse)


def test_an_engine_that_is_not_installed_is_named_with_what_installs_it(monkeypatch, asked):
    says(monkeypatch, {"missing": "megatron-core is not installed"})

    with pytest.raises(HostError) as error:
        conversation(MEGATRON, asked, lambda *_: None)

    assert error.value.exit_code is ExitCode.HOST
    assert "megatron-core is not installed" in str(error.value)
    assert "pip install 'llmorch[train]' installs megatron-core 0.16.1" in str(error.value)


@pytest.mark.parametrize(
    ("lines", "ending", "reason"),
    [
        (
            [{"version": "0.20.0"}, {"broken": "AttributeError: moved"}],
            {},
            "megatron-core 0.20.0 could not be asked: AttributeError: moved",
        ),
        ([{"version": "0.16.1"}], {"exit_code": None}, "no answer within 1800 s"),
        ([], {"exit_code": 1, "err": "a\nno such module\n"}, "exit code 1: no such module"),
        ([{"version": "0.16.1"}], {"exit_code": -9}, "exit code -9: it said nothing"),
    ],
    ids=["other-version", "too-slow", "did-not-start", "killed"],
)
def test_an_engine_that_does_not_answer_is_told_with_the_reason(
    monkeypatch, asked, lines, ending, reason
):
    says(monkeypatch, *lines, **ending)

    with pytest.raises(EngineRefused) as error:
        conversation(MEGATRON, asked, lambda *_: None)

    assert error.value.exit_code is ExitCode.ENGINE_REFUSES
    assert reason in str(error.value)
    assert "llmorch knows megatron-core 0.16.1, deepspeed 0.19.8" in str(error.value)


def test_progress_counts_answers(monkeypatch, asked):
    told = []
    says(monkeypatch, {"version": "0.16.1"}, {"broken": "soon"})

    with pytest.raises(EngineRefused):
        conversation(MEGATRON, asked, lambda done, total: told.append((done, total)))

    assert told == [(done, len(asked) + 1) for done in (0, 1, 2)]


def test_many_differences_are_told_with_their_number():
    finding = Finding(asked="x", seconds=0.0, differences=tuple(map(str, range(30))))
    answer = EngineAnswer(engine="e", version="1", findings=(finding,))

    assert "e 1 and llmorch do not agree:" in str(answer.error())
    assert "and 18 more" in str(answer.error())


def test_deepspeed_is_not_asked_about_other_axes_than_dp(monkeypatch):
    run = api.read_run(RUN, file="run.yaml")
    job = Job(run=run, layout=run.layout)
    monkeypatch.setattr(engine_check, "_megatron", lambda *_: "megatron")
    monkeypatch.setattr(engine_check, "_deepspeed", lambda *_: "deepspeed")

    assert unasked_of_deepspeed(job) == (
        "DeepSpeed is asked about data parallelism alone, not tp, pp",
    )
    assert engine_check.checked(job, lambda *_: None) == ("megatron",)


def test_deepspeed_is_asked_too_about_data_parallelism_where_it_is_installed(monkeypatch):
    run = api.read_run(RUN.replace("tp: 2, pp: 2", "zero_stage: 1"), file="run.yaml")
    job = Job(run=run, layout=run.layout)
    monkeypatch.setattr(engine_check, "_megatron", lambda *_: "megatron")
    monkeypatch.setattr(engine_check, "_deepspeed", lambda *_: "deepspeed")

    assert engine_check.checked(job, lambda *_: None) == ("megatron", "deepspeed")
    monkeypatch.setattr(engine_check, "is_installed", lambda name: name != DEEPSPEED)
    assert engine_check.checked(job, lambda *_: None) == ("megatron",)
