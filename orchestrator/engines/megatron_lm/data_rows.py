"""What `pretrain_gpt.py` is told of data; exactly one source may be given.

Tokens come ready made, so the tokenizer is one that only knows how many there are. Without data
in the run file the engine makes its own (`--mock-data`): enough to measure speed, nothing else.
"""

from orchestrator.engines.megatron_lm.row import Job, Row, Section, Value
from orchestrator.specs.run import DataSpec

WORKERS = 2
"""Processes that read ahead, each rank's; Megatron's default, written so that it stays."""


def _data(job: Job) -> DataSpec:
    found = job.plan.run.spec.data
    assert found is not None  # noqa: S101  rows of DATA alone
    return found


def _paths(job: Job) -> Value:
    sources = _data(job).sources()
    if len(sources) == 1:
        return (sources[0].prefix,)
    return tuple(word for source in sources for word in (source.weight, source.prefix))


def _cache(job: Job) -> Value:
    data = _data(job)
    return data.cache_dir or f"{data.sources()[0].prefix}.cache"


DATA = Section(
    title="Data",
    applies=lambda j: j.plan.run.spec.data is not None,
    rows=(
        Row(flag="--data-path", value=_paths, why="weights and prefixes of .bin/.idx files"),
        Row(
            flag="--split",
            value=lambda j: _data(j).split,
            why="training, evaluation, test; the default gives 3 % away",
        ),
        Row(
            flag="--data-cache-path",
            value=_cache,
            why="sample indices, built by rank 0: a file system that all hosts share",
        ),
    ),
)

MOCK_DATA = Section(
    title="Data",
    applies=lambda j: j.plan.run.spec.data is None,
    rows=(Row(flag="--mock-data", value=lambda _: True, why="the run file names no data"),),
)

READING = Section(
    title="Reading",
    yields=True,
    rows=(
        Row(
            flag="--tokenizer-type",
            value=lambda _: "NullTokenizer",
            why="tokens come ready made; only their number is needed",
        ),
        Row(flag="--num-workers", value=lambda _: WORKERS, why="processes that read ahead"),
        Row(
            flag="--no-create-attention-mask-in-dataloader",
            value=lambda _: True,
            why="causal attention needs no mask, and a mask is s x s bytes a sample",
        ),
    ),
)
