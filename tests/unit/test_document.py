"""Run files: every problem is named at once, with its place and what would work."""

import pytest

from orchestrator.errors import ExitCode, InvalidFile
from orchestrator.specs.document import examined, mapping_of, parse_run, yaml_of
from orchestrator.specs.run import RunSpec

GOOD = """
schema: 1
name: small
model: tiny-gpt
cluster: {card: local-cpu, gpus: 4}
training: {sequence_length: 256, global_batch_size: 16, steps: 10, precision: fp32,
           optimizer: {learning_rate: 8e-4}}
layout: {tp: 2, pp: 2}
"""


def problems_of(text: str) -> list[str]:
    with pytest.raises(InvalidFile) as caught:
        parse_run(text, file="run.yaml")
    assert caught.value.exit_code is ExitCode.INVALID_FILE
    return [str(problem) for problem in caught.value.problems]


def test_a_run_file_written_back_parses_to_itself():
    spec = parse_run(GOOD, file="run.yaml")

    assert parse_run(yaml_of(spec), file="again.yaml") == spec


def test_an_exponent_without_a_dot_is_a_number():
    spec = parse_run(GOOD, file="run.yaml")

    assert spec.training.optimizer.learning_rate == 8e-4


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (("layout: {tp: 2", "layout: {tpp: 2"), "layout.tpp: unknown key\n  did you mean 'tp'?"),
        (("steps: 10", "stepps: 10"), "training.stepps: unknown key\n  did you mean 'steps'?"),
        (("tp: 2", "tp: two"), "layout.tp: 'two': input should be a valid integer"),
        (("tp: 2", "tp: true"), "layout.tp: True: input should be a valid integer"),
        (("tp: 2", "tp: 0"), "layout.tp: 0: input should be greater than 0"),
        (("tp: 2", "zero_stage: 4"), "layout.zero_stage: 4: input should be less than or equal"),
        (("gpus: 4", "gpus: 4, hosts: 1"), "cluster: give either hosts or gpus"),
        (("steps: 10", "steps: 10, tokens: 5"), "training: give either steps or tokens"),
        (("name: small", "name: a/b"), "name: 'a/b': string should match pattern"),
        (("schema: 1", "schema: 2"), "schema: 2: input should be 1"),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
def test_a_wrong_line_is_named_with_what_would_work(changed, expected):
    problems = problems_of(GOOD.replace(*changed))

    assert any(problem.startswith(expected) for problem in problems), problems


def test_all_problems_are_reported_at_once():
    text = GOOD.replace("tp: 2", "tpp: 2").replace("steps: 10", "stepps: 10")

    problems = problems_of(text)

    assert {problem.split(":")[0] for problem in problems} >= {"layout.tpp", "training.stepps"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "the file is empty, not a mapping"),
        ("- a\n- b\n", "the file is a list, not a mapping"),
        ("a: [1, 2\n", "not valid YAML: line 2:"),
        ("a: 1\nb: 2\na: 3\n", "not valid YAML: line 3: key 'a' is written twice"),
        ("a: &a [*a]\n", "not valid YAML: circular reference"),
        (f"a: {'[' * 3000}{']' * 3000}\n", "not valid YAML: it is nested too deeply"),
        ("? [1, 2]\n: 3\n", "not valid YAML: "),
        (f"a: {'9' * 6000}\n", "not valid YAML: "),
        ("hello\n", "the file is a single text, not a mapping"),
    ],
    ids=["empty", "list", "broken", "twice", "loop", "deep", "list-key", "digits", "text"],
)
def test_text_that_is_no_mapping_is_refused(text, expected):
    assert problems_of(text)[0].startswith(expected)


def test_unknown_keys_alone_leave_the_rest_to_be_examined():
    data = mapping_of(GOOD.replace("pp: 2", "ppp: 2"), file="run.yaml")

    spec, problems = examined(data, model=RunSpec)

    assert spec is not None
    assert [problem.key for problem in problems] == ["layout.ppp"]


def test_an_inline_card_with_a_wrong_field_is_named_without_internal_words():
    text = GOOD.replace("model: tiny-gpt", "model: {name: mine, num_layers: -1}")

    problems = problems_of(text)

    assert any(problem.startswith("model.num_layers: -1:") for problem in problems)
    assert not any("card" in problem.split(":")[0] for problem in problems)
