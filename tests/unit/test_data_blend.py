"""`llmorch data blend`: what a run reads of each corpus, and how engines are told."""

import json

import pytest

from orchestrator.cost.blend import BlendSource, blend_shares
from tests.engine.corpora import write_corpus


@pytest.fixture
def corpora(tmp_path, monkeypatch):
    """Corpora of 1000, 500 and 100 tokens in the working folder."""
    monkeypatch.chdir(tmp_path)
    for name, size in (("web", 1000), ("code", 500), ("books", 100)):
        write_corpus(tmp_path / name, [b"x" * (size - 1)])


def test_weights_are_shares_and_epochs_are_tokens_over_what_is_there():
    sources = [
        BlendSource(prefix=name, weight=weight, available_tokens=available)
        for name, weight, available in (("a", 50, 1000), ("b", 25, 2000), ("c", 25, 100))
    ]

    shares = blend_shares(sources, training_tokens=2000)

    assert [share.weight for share in shares] == [0.5, 0.25, 0.25]
    assert [share.tokens for share in shares] == [1000, 500, 500]
    assert [share.epochs for share in shares] == [1.0, 0.25, 5.0]
    assert [share.is_worn_out for share in shares] == [False, False, True]


def test_the_mix_of_the_mission_is_50_25_17_8(corpora, llmorch):
    words = ("web=50", "code=25", "books=17", "--tokens", 1000, "--json")

    answer = llmorch("data", "blend", *words)

    weights = [source["weight"] for source in json.loads(answer.out)["sources"]]
    assert weights == pytest.approx([50 / 92, 25 / 92, 17 / 92])


def test_a_source_past_four_epochs_is_warned_of_with_the_weight_that_stays(corpora, llmorch):
    answer = llmorch("data", "blend", "web=1", "books=1", "--tokens", 1000)

    assert answer.code == 0
    assert "books is read 5.0 times" in answer.err
    assert "0.4000 of 1 stays within" in " ".join(answer.err.split())
    assert "web is read" not in answer.err


def test_corpora_without_weights_are_read_equally_often(corpora, llmorch):
    answer = llmorch("data", "blend", "web", "code", "--tokens", 3000, "--json")

    assert [source["epochs"] for source in json.loads(answer.out)["sources"]] == [2.0, 2.0]


def test_engines_are_told_in_their_own_words(corpora, llmorch, tmp_path):
    answer = llmorch(
        "data", "blend", "web=3", "code=1", "--tokens", 10, "--out", "mix.txt", "--json"
    )

    assert (tmp_path / "mix.txt").read_text() == "0.75 web 0.25 code\n"
    assert json.loads(answer.out)["arguments"] == {
        "run_file": {
            "data": {
                "blend": [{"prefix": "web", "weight": 0.75}, {"prefix": "code", "weight": 0.25}]
            }
        },
        "megatron": ["--data-path", "0.75", "web", "0.25", "code"],
    }


def test_a_run_file_says_tokens_and_split(corpora, llmorch, root, tmp_path):
    example = (root / "parallel_configs" / "tiny-gpt.local-x4.yaml").read_text()
    before, _ = example.split("data:")
    blend = "data: {blend: [{prefix: web, weight: 1}, {prefix: code, weight: 3}], split: '80,20,0'}"
    (tmp_path / "run.yaml").write_text(f"{before}{blend}\n")

    answer = llmorch("data", "blend", "run.yaml", "--json")

    tokens = 150 * 16 * 128
    sources = json.loads(answer.out)["sources"]
    assert [source["tokens"] for source in sources] == [tokens / 4, tokens * 3 / 4]
    assert [source["available_tokens"] for source in sources] == [800, 400]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("web=1",), 2, "how many tokens are trained on is not said"),
        (("web=-1", "--tokens", 10), 2, "'-1' is no weight"),
        (("nowhere=1", "--tokens", 10), 3, "nowhere.idx: there is no such file"),
    ],
    ids=["tokens", "weight", "missing"],
)
def test_an_order_that_cannot_be_is_refused(corpora, llmorch, words, code, says):
    answer = llmorch("data", "blend", *words)

    assert answer.code == code
    assert says in answer.err
