"""Bad input, met by the real worker: named with what to change, and said by one rank alone."""

from pathlib import Path
from typing import Any

import pytest

from tests.engine.corpora import write_corpus

ENGINE_REFUSES = 5


def sources(*prefixes, weight: float = 1.0) -> list[dict[str, Any]]:
    return [{"prefix": str(prefix), "weight": weight} for prefix in prefixes]


def refused(run) -> str:
    """What every rank told its agent, after checking that one log has it and no other."""
    for rank in run.ranks:
        assert rank.wait() == ENGINE_REFUSES, rank.log.read_text()
    (reason,) = {line["reason"] for rank in run.ranks for line in rank.of_kind("refused")}
    logs = [rank.log.read_text() for rank in run.ranks]
    first = reason.splitlines()[0]
    assert [first in log for log in logs].count(True) == 1
    assert all("another rank's log says why" in log for log in logs if first not in log)
    assert not any("Traceback" in log for log in logs)
    return reason


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"model": {"vocab_size": 300}},
            ["padded_vocab_size: 264 is below the vocabulary it pads", "vocab_padding_multiple"],
        ),
        (
            {"training": {"sequence_length": 64}},
            ["sequence_length: 64 is above the model's 32", "max_sequence_length"],
        ),
        (
            {"data": {"sources": sources("a", "b", weight=0.0)}},
            ["data.sources[1].weight: 0.0 is no share", "leave the corpus out"],
        ),
        (
            {"data": {"split": "0,1,0"}},
            ["data.split: '0,1,0' leaves nothing to train on", "99,1,0"],
        ),
        (
            {"training": {"batch_ramp": [{"first_step": 0, "global_batch_size": 6}]}},
            ["6 is not a multiple of micro batch x dp = 4", "ends with 6"],
        ),
    ],
    ids=["vocabulary", "positions", "weights", "split", "ramp"],
)
def test_a_programme_that_cannot_be_is_refused_before_torch(launcher, gpt, changes, said) -> None:
    reason = refused(launcher.start(gpt(**changes), ranks=2))

    assert [text for text in said if text not in reason] == []


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda _: None, "none.idx: no such corpus"),
        (lambda path: cut(f"{path}.bin", 100), "bytes, and its index tells of 6,020"),
        (lambda path: cut(f"{path}.idx", 100), "sequences in 10 documents take 242"),
        (lambda path: cut(f"{path}.idx", 240), "not an index of Megatron's format"),
        (lambda path: Path(f"{path}.bin").unlink(), "missing, and its other half is here"),
    ],
    ids=["both-missing", "torn-bin", "torn-idx", "cut-header", "half-missing"],
)
def test_a_corpus_that_is_not_whole_is_named(launcher, gpt, tmp_path, damage, said) -> None:
    corpus = write_corpus(tmp_path / "corpus", [b"0123456789" * 30] * 10)
    damage(corpus)
    prefix = tmp_path / "none" if said.startswith("none") else corpus

    reason = refused(launcher.start(gpt(data={"sources": sources(prefix)})))

    assert said in reason


def test_a_rank_without_data_is_foreseen(launcher, gpt, tmp_path) -> None:
    corpus = write_corpus(tmp_path / "small", [b"0123456789" * 10])  # 101 tokens: 3 samples of 32
    data = {"sources": sources(corpus), "cache_dir": str(tmp_path / "cache")}

    reason = refused(launcher.start(gpt(data=data), ranks=2))

    assert "3 samples of 32 tokens, and a step takes 8: some ranks would have none" in reason
    assert "use a larger corpus, a shorter sequence_length or a smaller batch" in reason


def test_weights_that_are_not_numbers_at_step_1_are_refused(launcher, gpt) -> None:
    run = launcher.start(gpt(model={"init_std": 1e30}), ranks=2)

    reason = refused(run)

    assert "loss is nan" in reason
    assert "at step 1, with the weights as they were drawn" in reason
    assert "try a smaller model.init_std (it is 1e+30)" in reason
    assert run.ranks[0].of_kind("checkpoint") == []


def test_another_architectures_checkpoint_is_refused(launcher, gpt, llama, one_rank_gpt) -> None:
    run = launcher.start(llama(), ranks=2, resume_from=one_rank_gpt.checkpoint(2))

    reason = refused(run)

    assert "cannot resume from" in reason
    assert "normalization is LayerNorm there and RMSNorm here" in reason


def test_tokens_that_the_model_does_not_know_are_named(launcher, gpt, tmp_path) -> None:
    corpus = write_corpus(tmp_path / "wide", [b"\xff" * 2000])  # token 255, and 256 ends it
    model = {"vocab_size": 200, "padded_vocab_size": 257}
    data = {"sources": sources(corpus), "cache_dir": str(tmp_path / "cache")}
    config = gpt(model=model, data=data | {"end_of_document": 199})
    config["model"]["padded_vocab_size"] = 200

    reason = refused(launcher.start(config))

    assert "has token 255, and the model's vocabulary is 200" in reason
    assert "use the model's tokenizer" in reason


def test_evaluation_of_more_than_is_held_out_is_refused(launcher, gpt, tmp_path) -> None:
    corpus = write_corpus(tmp_path / "corpus", [b"0123456789" * 30] * 10)
    config = gpt(
        training={"evaluation": {"interval_steps": 1, "steps": 5}},
        data={"sources": sources(corpus), "split": "9,1", "cache_dir": str(tmp_path / "cache")},
    )

    reason = refused(launcher.start(config))

    assert "5 batches of 8 take 40 held-out samples" in reason
    assert "hold out more (data.split)" in reason


def cut(path: str, by: int) -> None:
    whole = Path(path).read_bytes()
    Path(path).write_bytes(whole[:-by])
