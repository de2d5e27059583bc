"""Every way in which a schedule can break the law of once and in order."""

import pytest

from orchestrator.errors import UsageError
from orchestrator.schedules.actions import Action, Overlap, parse
from orchestrator.schedules.check import problems
from orchestrator.schedules.schedule import Schedule, build, rewritten
from orchestrator.specs.choices import ScheduleKind

SOUND = build(ScheduleKind.INTERLEAVED, pp=2, vpp=2, num_microbatches=2, microbatch_group_size=2)


def actions(texts: str) -> tuple[Action, ...]:
    return tuple(map(parse, texts.split()))


def test_a_built_schedule_has_no_problem():
    assert problems(SOUND) == ()


@pytest.mark.parametrize(
    ("last_rank", "expected"),
    [
        ("1F0 1F1 3F0 3B0 3F1 3B1 1B0", ["rank 1: 1B1 is never done"]),
        ("1F0 1F1 3F0 3B0 3F1 3B1 1B0 1B1 1B1", ["rank 1: 1B1 is done twice"]),
        ("1F0 1F1 3B0 3F0 3F1 3B1 1B0 1B1", ["rank 1: 3B0 comes before 3F0"]),
        ("1F0 1F1 3F0 3B0 3F1 3B1 1B0 1B1 2F0", ["rank 1: 2F0 belongs to rank 0"]),
        ("1F0 1F1 3F0 3I0 3F1 3B1 1B0 1B1", ["rank 1: 3W0 is never done"]),
        (
            "1F0 1F1 3F0 3W0 3I0 3F1 3B1 1B0 1B1",
            ["rank 1: 3W0 comes before 3I0"],
        ),
        (
            "1F0 1F1 3F0 3B0 3F1 3B1 1B0 1B1 1I1",
            ["rank 1: 1I1 repeats 1B1", "rank 1: 1W1 is never done"],
        ),
    ],
    ids=[
        "missing",
        "twice",
        "backward first",
        "wrong rank",
        "half a backward",
        "weights first",
        "whole and split",
    ],
)
def test_each_breach_is_named(last_rank, expected):
    broken = with_last_rank(last_rank)

    assert [str(problem) for problem in problems(broken)] == expected


def test_a_split_backward_is_as_good_as_a_whole_one():
    split = with_last_rank("1F0 1F1 3F0 3I0 3F1 3W0 3B1 1I0 1I1 1W1 1W0")

    assert problems(split) == ()


def test_the_parts_of_an_overlapped_pair_do_not_see_each_other():
    itself = Overlap(forward=parse("3F0"), backward=parse("3B0"))
    order = (*actions("1F0 1F1"), itself, *actions("3F1 3B1 1B0 1B1"))
    broken = rewritten(SOUND, [SOUND.order(0), order])

    assert [str(problem) for problem in problems(broken)] == ["rank 1: 3B0 comes before 3F0"]


def test_both_parts_of_an_overlapped_pair_count_as_done():
    pair = Overlap(forward=parse("3F1"), backward=parse("3B0"))
    order = (*actions("1F0 1F1 3F0"), pair, *actions("3B1 1B0 1B1 3B0"))
    broken = rewritten(SOUND, [SOUND.order(0), order])

    assert [str(problem) for problem in problems(broken)] == ["rank 1: 3B0 is done twice"]


@pytest.mark.parametrize(
    ("text", "match"),
    [("5F0", "past the 4 of the pipeline"), ("1F2", "past the 2 of the step")],
)
def test_what_does_not_exist_cannot_be_written(text, match):
    with pytest.raises(UsageError, match=match):
        with_last_rank(text)


def with_last_rank(texts: str) -> Schedule:
    return rewritten(SOUND, [SOUND.order(0), actions(texts)])
