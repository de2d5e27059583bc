"""Pictures of schedules, and the page that shows them."""

import re
from pathlib import Path

import pytest

from orchestrator.schedules.draw import MAX_COLUMNS, beginning, grid, outline
from orchestrator.schedules.schedule import arranged, build
from orchestrator.schedules.simulate import Timeline, simulate
from orchestrator.schedules.times import StageTimes
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

    assert {kind for kind, *_ in shown} == {"1f1b", "interleaved-1f1b"}
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


def long_timeline() -> Timeline:
    schedule = build(ScheduleKind.ZB_V, pp=2, vpp=2, num_microbatches=30, microbatch_group_size=1)
    times = StageTimes.uniform(num_stages=4, forward_ns=10, backward_ns=20)
    answer = simulate(schedule, times=times)
    assert isinstance(answer, Timeline)
    return answer


def test_the_beginning_of_what_is_too_wide_fits_in_a_line():
    lines = (beginning(long_timeline()) or "").splitlines()

    assert [line[:24] for line in lines] == ["rank 0 | a0  a1  a2  b0 ", "rank 1 | .   a0  b0  a1 "]
    assert all(line.endswith(" >") and len(line) <= MAX_COLUMNS for line in lines)


def test_an_outline_shows_any_times_with_a_letter_a_pass():
    schedule = build(
        ScheduleKind.ONE_F_ONE_B, pp=2, vpp=1, num_microbatches=2, microbatch_group_size=1
    )
    times = StageTimes(forward_ns=(1009, 997), backward_ns=(2003, 1999), latency_ns=7)
    answer = simulate(schedule, times=times)
    assert isinstance(answer, Timeline)

    rows = [line.split("| ")[1] for line in outline(answer).splitlines()]

    # Each pass is one run of its letter, in the order of the rank.
    assert [re.sub(r"(.)\1*", r"\1", row) for row in rows] == ["f.b.b", ".fbfb."]
    assert {len(row) for row in rows} == {MAX_COLUMNS - len("rank 0 | ")}


def test_an_outline_marks_split_and_overlapped_passes():
    schedule = build(
        ScheduleKind.DUAL_PIPE_V, pp=2, vpp=2, num_microbatches=6, microbatch_group_size=1
    )
    answer = simulate(
        schedule, times=StageTimes.uniform(num_stages=4, forward_ns=101, backward_ns=203)
    )
    assert isinstance(answer, Timeline)

    assert set("fbiwx") <= set(outline(answer))


DRAWN = re.compile(
    r"!\[.*\]\((pictures/\S+\.svg)\)\n<!-- svg: (\S+) stages=(\d+) microbatches=(\d+) -->"
)


def test_the_page_explains_every_schedule_and_its_pictures_are_what_the_code_draws(
    llmorch, tmp_path
):
    text = PAGE.read_text(encoding="utf-8")
    drawn = DRAWN.findall(text)

    assert all(f"(`{kind}`)" in text for kind in ScheduleKind if kind != "no-pipeline")
    in_text = {kind for kind, *_ in PICTURE.findall(text)}
    assert {kind for _, kind, *_ in drawn} | in_text == set(ScheduleKind) - {"no-pipeline"}
    for path, kind, stages, microbatches in drawn:
        made = tmp_path / "made.svg"
        words = ("--kind", kind, "--stages", stages, "--microbatches", microbatches)
        answer = llmorch("schedule", *words, "--svg", made)
        assert answer.code == 0
        shown = (PAGE.parent / path).read_text(encoding="utf-8")
        assert made.read_text(encoding="utf-8") == shown, (
            f"{path}: llmorch schedule {' '.join(words)} --svg docs/{path}"
        )
