"""`llmorch doctor`: what is installed, and whether engines still do what we know of them."""

import json
from dataclasses import asdict

import pytest

from launch.transport.commands import CommandAnswer
from launch.workers.engine_check.cases import Case
from orchestrator.cli import engine_comparison
from orchestrator.cli.engine_comparison import compare, summary
from orchestrator.schedules.engines import PipelineEngine


class FakeEngine:
    """Answers the worker's cases as DeepSpeed would, but for one line."""

    def __init__(self, broken_line: dict[str, object] | None = None) -> None:
        self.broken_line = broken_line
        self.asked: list[Case] = []

    def ask(self, _argv, *, text: str, **_: float) -> CommandAnswer:
        lines = [json.dumps({"version": "9.9"})]
        for number, line in enumerate(text.splitlines()):
            case = Case(**json.loads(line))
            self.asked.append(case)
            stream = engine_comparison._expected(PipelineEngine.DEEPSPEED, rebuilt(case))
            answer = {"order": [], "stream": list(stream), "refused": None}
            if number == 5 and self.broken_line is not None:
                lines.append(json.dumps({**answer, **self.broken_line}))
                if "broken" in self.broken_line:
                    break
            else:
                lines.append(json.dumps(answer))
        return CommandAnswer(exit_code=0, out="\n".join(lines) + "\n", err="")


def rebuilt(case: Case) -> Case:
    return Case(**{**asdict(case), "p2p": engine_comparison.P2p(case.p2p)})


def found(monkeypatch: pytest.MonkeyPatch, fake: FakeEngine) -> engine_comparison.Comparison:
    monkeypatch.setattr(engine_comparison, "ask", fake.ask)
    return compare(PipelineEngine.DEEPSPEED)


def test_an_engine_that_does_what_we_know_is_equal(monkeypatch):
    fake = FakeEngine()

    answer = found(monkeypatch, fake)

    assert answer.is_equal
    assert answer.compared == len(fake.asked) > 40
    assert summary(answer)[0].startswith("deepspeed 9.9:")


def test_a_changed_stream_is_shown_with_the_first_difference(monkeypatch):
    answer = found(monkeypatch, FakeEngine({"stream": ["ForwardPass(buffer_id=7)"]}))

    assert not answer.is_equal
    [difference] = answer.differences
    assert "1f1b pp 2" in difference
    assert "step 0 is 'ForwardPass(buffer_id=7)', not" in difference


def test_a_new_refusal_is_a_difference(monkeypatch):
    answer = found(monkeypatch, FakeEngine({"refused": "ValueError: no"}))

    assert "refused by deepspeed alone" in answer.differences[0]


def test_private_names_that_moved_end_the_comparison_with_a_reason(monkeypatch):
    answer = found(monkeypatch, FakeEngine({"broken": "AttributeError: _step_to_micro_batch"}))

    assert not answer.is_equal
    assert "AttributeError: _step_to_micro_batch" in (answer.problem or "")
    assert answer.compared == 5


@pytest.mark.parametrize(
    ("said", "version", "problem"),
    [
        (CommandAnswer(exit_code=0, out='{"missing": "x"}\n', err=""), None, None),
        (CommandAnswer(exit_code=None, out="", err=""), None, "no answer within 300 s"),
        (CommandAnswer(exit_code=1, out="", err="a\nlast words\n"), None, "last words"),
    ],
    ids=["not installed", "hangs", "crashes"],
)
def test_an_engine_that_does_not_answer_is_told_apart(monkeypatch, said, version, problem):
    monkeypatch.setattr(engine_comparison, "ask", lambda *_, **__: said)

    answer = compare(PipelineEngine.MEGATRON)

    assert answer.version == version
    assert answer.is_equal == (problem is None)
    assert problem is None or problem in (answer.problem or "")


def test_doctor_says_what_is_installed(llmorch):
    answer = llmorch("doctor", "--json")

    document = json.loads(answer.out)
    assert answer.code == 0
    assert document["sound"] is True
    assert set(document["versions"]) >= {"torch", "megatron-core", "deepspeed"}
    assert document["engines"] == []
