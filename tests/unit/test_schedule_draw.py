"""Pictures of schedules, and the page that shows them."""

import re
from pathlib import Path

import pytest

from orchestrator.schedules.draw import MAX_COLUMNS, grid
from orchestrator.schedules.schedule import arranged, build
from orchestrator.schedules.simulate import StageTimes, Timeline, simulate
from orchestrator.specs.choices import ScheduleKind

PAGE = Path(__file__).resolve().parents[2] / "docs" / "schedules.md"
PICTURE = re.compile(
    r"<!-- picture: (\S+) pp=(\d+) vpp=(\d+) microbatches=(\d+) group=(\d+)"
    r" forward=(\d+) backward=(\d+) -->\n```text\n(.*?)\n```",
    re.DOTALL,
)
DEADLOCK = re.compile(
    r"<!-- deadlock: pp=(\d+) vpp=(\d+) microbatches=(\d+) group=(\d+) -->\n```text\n(.*?)\n```",
    re.DOTALL,
)


def picture(kind: str, sizes: list[int]) -> str | None:
    pp, vpp, num_microbatches, group, forward_ns, backward_ns = sizes
    answer = simulate(
        build(
            ScheduleKind(kind),
            pp=pp,
            vpp=vpp,
            num_microbatches=num_microbatches,
            microbatch_group_size=group,
        ),
        times=StageTimes.uniform(
            num_stages=pp * vpp, forward_ns=forward_ns, backward_ns=backward_ns
        ),
    )
    assert isinstance(answer, Timeline)
    return grid(answer)


def test_cells_name_microbatch_direction_and_chunk():
    assert picture("1f1b", [2, 1, 2, 1, 1, 2]) == (
        "rank 0 | 0 1 . . 0'0'. 1'1'\nrank 1 | . 0 0'0'1 1'1'. ."
    )
    assert picture("interleaved-1f1b", [2, 2, 2, 2, 5, 5]) == (
        "rank 0 | a0 a1 b0 b1 .  b0'.  b1'a0'a1'\nrank 1 | .  a0 a1 b0 b0'b1 b1'a0'a1'."
    )


def test_slots_are_as_long_as_all_times_allow():
    assert picture("1f1b", [2, 1, 2, 1, 100, 200]) == picture("1f1b", [2, 1, 2, 1, 1, 2])


@pytest.mark.parametrize(
    "sizes",
    [[4, 1, 40, 1, 1, 1], [4, 1, 8, 1, 1000, 1999], [2, 1, 2, 1, 0, 0]],
    ids=["many microbatches", "odd times", "no time at all"],
)
def test_what_does_not_fit_in_a_line_is_not_drawn(sizes):
    assert picture("1f1b", sizes) is None


def test_the_page_shows_what_the_code_draws():
    shown = PICTURE.findall(PAGE.read_text(encoding="utf-8"))

    assert [kind for kind, *_ in shown] == ["1f1b", "interleaved-1f1b", "interleaved-1f1b"]
    for kind, *sizes, text in shown:
        assert text == picture(kind, list(map(int, sizes))), f"{PAGE}: draw {kind} {sizes} again"
        assert max(map(len, text.splitlines())) <= MAX_COLUMNS


def test_the_page_shows_the_deadlock_that_the_simulation_finds():
    [(*sizes, text)] = DEADLOCK.findall(PAGE.read_text(encoding="utf-8"))
    pp, vpp, num_microbatches, group = map(int, sizes)
    schedule = arranged(
        ScheduleKind.INTERLEAVED,
        pp=pp,
        vpp=vpp,
        num_microbatches=num_microbatches,
        microbatch_group_size=group,
    )

    answer = simulate(
        schedule, times=StageTimes.uniform(num_stages=pp * vpp, forward_ns=1, backward_ns=2)
    )

    assert text == str(answer)
