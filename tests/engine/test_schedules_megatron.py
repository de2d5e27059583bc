"""Our orders, transfers and refusals against the loops that Megatron-Core really executes."""

import itertools
from collections.abc import Iterator

import pytest

from launch.workers.engine_check.cases import Case, P2p
from orchestrator.schedules import legal
from orchestrator.schedules.schedule import arranged
from orchestrator.schedules.streams import megatron as ours
from orchestrator.specs.choices import OverlapAxis, ScheduleKind

pytest.importorskip("megatron.core.pipeline_parallel.schedules")
engine = pytest.importorskip("launch.workers.engine_check.megatron")


@pytest.fixture(scope="module")
def record() -> Iterator[object]:
    with engine.recording() as function:
        yield function


def case(kind: ScheduleKind, words: dict[str, int], *, rank: int, p2p: P2p = P2p.BATCHED) -> Case:
    return Case(engine="megatron-core", schedule=kind.value, **words, rank=rank, p2p=p2p)


def test_1f1b_is_the_loop_that_megatron_executes_transfers_and_all(record):
    compared = 0
    for pp, m in itertools.product(range(1, 10), range(1, 22)):
        words = {"pp": pp, "vpp": 1, "num_microbatches": m, "microbatch_group_size": 1}
        schedule = arranged(ScheduleKind.ONE_F_ONE_B, **words)
        for rank in range(pp):
            theirs = record(case(ScheduleKind.ONE_F_ONE_B, words, rank=rank))
            assert tuple(map(str, schedule.order(rank))) == theirs.order, (words, rank)
            assert ours.stream(schedule, rank=rank) == theirs.stream, (words, rank)
            compared += 1

    assert compared == 945


def test_without_a_pipeline_it_is_the_loop_that_megatron_executes(record):
    for m in range(1, 12):
        words = {"pp": 1, "vpp": 1, "num_microbatches": m, "microbatch_group_size": 1}
        schedule = arranged(ScheduleKind.NO_PIPELINE, **words)

        theirs = record(case(ScheduleKind.NO_PIPELINE, words, rank=0))

        assert tuple(map(str, schedule.order(0))) == theirs.order == theirs.stream


@pytest.mark.parametrize("p2p", list(P2p))
@pytest.mark.parametrize("kind", [ScheduleKind.INTERLEAVED, ScheduleKind.COMBINED])
def test_interleaving_is_the_loop_that_megatron_executes_transfers_and_all(record, kind, p2p):
    compared = 0
    for pp, vpp in itertools.product(range(2, 7), (2, 3, 4)):
        for g, m in itertools.product(range(pp, pp + 4), range(pp, 3 * pp + 3)):
            words = {"pp": pp, "vpp": vpp, "num_microbatches": m, "microbatch_group_size": g}
            if legal.refusal(kind, **words) is not None:
                continue
            schedule = arranged(kind, **words)
            for rank in range(pp):
                theirs = record(case(kind, words, rank=rank, p2p=p2p))
                assert tuple(map(str, schedule.order(rank))) == theirs.order, (words, rank)
                written = ours.stream(schedule, rank=rank, p2p=ours.P2p(p2p.value))
                assert written == theirs.stream, (words, rank)
                compared += 1

    assert compared >= 900


@pytest.mark.parametrize("kind", [ScheduleKind.INTERLEAVED, ScheduleKind.COMBINED])
def test_groups_are_refused_exactly_where_megatron_refuses(record, kind):
    answers = set()
    for pp, vpp in itertools.product((2, 3, 4, 5), (2, 3)):
        for g, m in itertools.product(range(1, pp + 4), range(1, 3 * pp + 2)):
            words = {"pp": pp, "vpp": vpp, "num_microbatches": m, "microbatch_group_size": g}
            refused = legal.refusal(kind, **words)
            theirs = record(case(kind, words, rank=0, p2p=P2p.OVERLAPPED))

            assert (refused is None) == (theirs.refused is None), words
            answers.add(refused is None)

    assert answers == {True, False}


def test_the_nearest_numbers_that_we_name_megatron_takes(record):
    for pp, g, m in itertools.product((2, 3, 4), range(1, 8), range(1, 14)):
        words = {"pp": pp, "vpp": 2, "num_microbatches": m, "microbatch_group_size": g}
        refused = legal.refusal(ScheduleKind.INTERLEAVED, **words)
        if refused is None:
            continue
        better = [
            {**words, "num_microbatches": count, "microbatch_group_size": max(g, pp)}
            for count in refused.nearest_num_microbatches
        ]
        if refused.nearest_group_size is not None:
            better.append({**words, "microbatch_group_size": refused.nearest_group_size})
        for words in better:
            assert record(case(ScheduleKind.INTERLEAVED, words, rank=0)).refused is None, words


def test_megatron_refuses_overlapped_1f1b_as_we_do(record):
    words = {"pp": 4, "vpp": 1, "num_microbatches": 8, "microbatch_group_size": 4}

    theirs = record(case(ScheduleKind.ONE_F_ONE_B, words, rank=0, p2p=P2p.OVERLAPPED))

    assert "does not support overlapping" in (theirs.refused or "")
    assert legal.p2p_refusal(ScheduleKind.ONE_F_ONE_B, pp=4, overlap=(OverlapAxis.PP,))
