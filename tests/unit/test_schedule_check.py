"""Every way in which a schedule can break the law of once and in order."""

from dataclasses import replace

import pytest

from orchestrator.schedules.actions import Action, parse
from orchestrator.schedules.check import problems
from orchestrator.schedules.schedule import build
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
        (
            "1F0 1F1 3F0 3B0 3F1 3B1 1B0 1B1 5F0",
            ["rank 1: 5F0 names a stage past the 4 of the pipeline"],
        ),
        (
            "1F0 1F1 3F0 3B0 3F1 3B1 1B0 1B1 1F2",
            ["rank 1: 1F2 names a microbatch past the 2 of the step"],
        ),
    ],
    ids=["missing", "twice", "backward first", "wrong rank", "no such stage", "no such microbatch"],
)
def test_each_breach_is_named(last_rank, expected):
    broken = replace(SOUND, orders=(SOUND.orders[0], actions(last_rank)))

    assert [str(problem) for problem in problems(broken)] == expected
