"""Training programmes that cannot be followed, and corpora that are not whole, before torch."""

import pytest

from launch.workers.corpus_files import require_corpora
from launch.workers.megatron_core.arguments import read_arguments
from launch.workers.megatron_core.changes import remarks
from launch.workers.megatron_core.refusals import require_programme
from launch.workers.voice import speaks_first
from orchestrator.errors import EngineRefused
from tests.engine.corpora import write_corpus
from tests.unit.test_worker_arguments import written

SOURCE = {"prefix": "/data/corpus", "weight": 1.0}


def refusal(folder, **changes) -> str:
    with pytest.raises(EngineRefused) as refused:
        require_programme(read_arguments(written(folder, **changes)), world_size=4)
    return refused.value.reason


def phase(first_step, batch):
    return {"first_step": first_step, "global_batch_size": batch}


def test_a_right_programme_is_accepted(tmp_path) -> None:
    ramp = [phase(0, 8), phase(3, 16)]
    arguments = read_arguments(written(tmp_path, training__batch_ramp=ramp))

    assert require_programme(arguments, world_size=4) is None


def test_the_ramp_says_the_batch_of_each_step(tmp_path) -> None:
    ramp = [phase(0, 4), phase(3, 8), phase(5, 16)]
    arguments = read_arguments(written(tmp_path, training__batch_ramp=ramp))

    sizes = [arguments.ramp().batch_size_after(steps) for steps in range(7)]
    assert sizes == [4, 4, 4, 8, 8, 16, 16]
    assert arguments.ramp().samples_after(6) == 12 + 16 + 16
    assert arguments.num_microbatches(4, batch_size=8) == 4


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"training__batch_ramp": [phase(1, 16)]}, "batch_ramp[0]: first_step 1: it begins at 0"),
        (
            {"training__batch_ramp": [phase(0, 8), phase(0, 16)]},
            "batch_ramp[1]: first_step 0 is not after 0",
        ),
        (
            {"training__batch_ramp": [phase(0, 7), phase(2, 16)]},
            "batch_ramp[0].global_batch_size: 7 is not a multiple of micro batch x dp = 2",
        ),
        (
            {"training__batch_ramp": [phase(0, 8)]},
            "batch_ramp: ends with 8, and training.global_batch_size is 16",
        ),
        (
            {"training__optimizer__warmup_steps": 100},
            "optimizer.warmup_steps: 100 is not below decay_steps 100",
        ),
        (
            {"training__optimizer__initial_learning_rate": 1},
            "initial_learning_rate: 1.0 is not between 0 and 0.001",
        ),
        (
            {"training__optimizer__min_learning_rate": 1},
            "min_learning_rate: 1.0 is not between 0 and 0.001",
        ),
        (
            {"training__optimizer__decay_style": "wsd"},
            "wsd_decay_steps: None is not between 1 and decay_steps 100",
        ),
        (
            {"training__optimizer__wsd_decay_steps": 5},
            "wsd_decay_steps: of no use when decay_style is cosine",
        ),
        ({"data__sources": []}, "data.sources: empty, and training needs a corpus"),
        (
            {"data__sources": [SOURCE, SOURCE]},
            "data.sources: /data/corpus is there twice: add its weights up",
        ),
        (
            {"data__sources": [SOURCE | {"weight": -1}]},
            "data.sources[0].weight: -1.0 is no share of the samples",
        ),
        ({"data__split": "a,b"}, "data.split: 'a,b' leaves nothing to train on"),
        ({"data__split": "1,2,3,4"}, "data.split: '1,2,3,4' leaves nothing to train on"),
        (
            {"training__evaluation": {"interval_steps": 0, "steps": 1}},
            "training.evaluation.interval_steps: 0 is below 1",
        ),
        (
            {"training__evaluation": {"interval_steps": 1, "steps": 1}},
            "data.split: 1,0,0 holds no documents for training.evaluation",
        ),
        ({"logging__interval_steps": 0}, "logging.interval_steps: 0 is below 1"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_programme_that_cannot_be_followed_is_refused_by_name(tmp_path, changes, said) -> None:
    assert said in refusal(tmp_path, **changes)


def test_curves_without_tensorboard_are_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)

    assert "install llmorch[metrics]" in refusal(tmp_path, logging__tensorboard_dir="curves")


def test_a_whole_corpus_is_accepted(tmp_path) -> None:
    corpus = write_corpus(tmp_path / "corpus", [b"abc", b"defg"])

    assert require_corpora([str(corpus)]) is None


def test_every_corpus_that_is_not_whole_is_named_at_once(tmp_path) -> None:
    torn, whole = (write_corpus(tmp_path / name, [b"abc" * 9]) for name in ("torn", "whole"))
    text = (tmp_path / "torn.bin").read_bytes()
    (tmp_path / "torn.bin").write_bytes(text[:-2])

    with pytest.raises(EngineRefused) as refused:
        require_corpora([str(torn), str(whole), str(tmp_path / "none")])

    assert "torn.bin: 54 bytes, and its index tells of 56" in refused.value.reason
    assert "none.idx: no such corpus" in refused.value.reason
    assert "whole" not in refused.value.reason.replace("not whole", "")


def test_what_is_no_index_is_named(tmp_path) -> None:
    (tmp_path / "text.idx").write_bytes(b"hello" * 20)
    (tmp_path / "text.bin").write_bytes(b"")

    with pytest.raises(EngineRefused, match="not an index of Megatron's format"):
        require_corpora([str(tmp_path / "text")])


def test_a_rank_that_has_met_nobody_speaks_for_itself() -> None:
    assert speaks_first()


def test_a_resumed_run_says_what_of_its_programme_is_new() -> None:
    saved = {
        "training": {"steps": 5, "optimizer": {"learning_rate": 0.1, "beta1": 0.9}},
        "data": {"split": "9,1", "seed": 3, "cache_dir": "/a"},
    }
    now = {
        "training": {"steps": 5, "optimizer": {"learning_rate": 0.2, "beta1": 0.9}},
        "data": {"split": "8,2", "seed": 3, "cache_dir": "/b"},
    }

    assert list(remarks(saved, now)) == [
        "data.split was 9,1 and is 8,2: samples come in another order from here on",
        "training.optimizer.learning_rate was 0.1 and is 0.2",
    ]
