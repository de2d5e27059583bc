"""`doctor --engines` on the engines that are really installed."""

import json

import pytest

pytest.importorskip("megatron.core")
pytest.importorskip("deepspeed")


def test_the_installed_engines_do_what_we_know_of_them(llmorch):
    answer = llmorch("doctor", "--engines", "--json")

    document = json.loads(answer.out)
    assert answer.code == 0, document
    assert [engine["equal"] for engine in document["engines"]] == [True] * 3
    assert all(engine["version"] for engine in document["engines"])
    assert sum(engine["compared"] for engine in document["engines"]) > 1000
