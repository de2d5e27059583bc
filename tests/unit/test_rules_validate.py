"""What `validate` makes of the table: problems all at once, warnings beside them, stable JSON."""

import json

import pytest
import yaml

from tests.unit.broken_runs import DENSE, Document, changed


@pytest.fixture
def validated(llmorch, tmp_path):
    path = tmp_path / "run.yaml"

    def run(document: Document, *words: str):
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        return llmorch("validate", path, *words)

    return run


WARNED = changed(DENSE, {"layout.cp_comm_type": "p2p"})


def test_a_warning_goes_to_stderr_and_leaves_the_exit_code(validated):
    answer = validated(WARNED)

    assert answer.code == 0, answer.err
    assert "run.yaml: valid" in answer.out
    assert "run.yaml: warning: layout.cp_comm_type: p2p, but with cp 1 nothing is" in answer.err
    assert "possible: leave it out; or cp: 2" in answer.err


def test_json_names_rule_field_message_hint_and_source_of_problems_and_warnings(validated):
    document = changed(WARNED, {"training.global_batch_size": 255})

    told = json.loads(validated(document, "--json").out)

    assert told["valid"] is False
    keys = {"rule", "key", "message", "possible", "source"}
    for one in (*told["problems"], *told["warnings"]):
        assert set(one) == keys
        assert all(one[key] for key in keys)
    assert [one["rule"] for one in told["problems"]] == ["schedule", "microbatches"]
    assert [one["rule"] for one in told["warnings"]] == ["unused-cp-comm-type"]
    assert told["problems"][1]["source"].endswith("num_microbatches_calculator.py:341")


def test_shape_rules_engine_and_warnings_are_told_in_one_reading(validated):
    values = {
        "training.sped": 3,
        "layout.tp": 16,
        "layout.zero_stage": 3,
        "engine.name": "megatron-core",
        "layout.cp_comm_type": "p2p",
    }

    answer = validated(changed(DENSE, values))

    assert answer.code == 3
    for text in (
        "training.sped: unknown key",
        "layout.tp: 16 does not divide 40 attention heads",
        "layout.zero_stage: 3, but megatron-core runs",
        "warning: layout.cp_comm_type",
    ):
        assert text in answer.err, answer.err


def test_an_unknown_engine_does_not_hide_broken_rules(validated):
    answer = validated(changed(DENSE, {"engine.name": "megatron-cor", "layout.tp": 16}))

    assert answer.code == 3
    assert "unknown engine 'megatron-cor'" in answer.err
    assert "layout.tp: 16 does not divide" in answer.err


def test_what_only_the_engine_lacks_ends_with_its_own_code(validated):
    answer = validated(changed(DENSE, {"engine.version": "0.1"}))

    assert answer.code == 5
    assert "engine.version: 0.1, but megatron-core runs" in answer.err
