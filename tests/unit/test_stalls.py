"""When ranks count as hanging: limits that follow step times, declared phases, silent hosts."""

import pytest

from launch.rank_lines import CheckpointLine, FinishedLine, PhaseLine, RankPhase, StepLine
from launch.request import HangTerms
from launch.supervisor.stalls import Stalls
from launch.wire import Beat, RankBeat

TERMS = HangTerms(floor_s=2.0, ceiling_s=60.0, phase_s=600.0)


def step_line(step: int, duration_s: float) -> StepLine:
    return StepLine(
        step=step,
        loss=None,
        grad_norm=None,
        learning_rate=None,
        tokens=1,
        duration_s=duration_s,
    )


class Scene:
    """Two ranks on one agent, in the middle of training; time is `now_s`."""

    def __init__(self, *, step_s: float = 0.1, steps: int = 8) -> None:
        self.now_s = 100.0
        self.stalls = Stalls(TERMS)
        self.stalls.begin(2, at_s=self.now_s)
        for step in range(1, steps + 1):
            self.say(0, step_line(step, step_s))
            self.say(1, step_line(step, step_s))

    def say(self, rank: int, line) -> None:
        self.stalls.said(rank, line, at_s=self.now_s)

    def after(self, duration_s: float, *ages_s: float | None):
        """What a beat shows some time later, when marks are so old."""
        self.now_s += duration_s
        ranks = tuple(
            RankBeat(rank=r, pid=9, seq=age and 5 - r, step=age and 8, mark_age_s=age, label="go")
            for r, age in enumerate(ages_s)
        )
        return self.stalls.beat(0, Beat(monotonic_s=self.now_s, ranks=ranks), at_s=self.now_s)


def test_old_marks_of_a_training_rank_are_a_hang() -> None:
    stall = Scene().after(2.5, 2.4, 2.5)

    assert (stall.stalled_s, stall.limit_s, stall.phase) == (2.4, 2.0, RankPhase.TRAIN)
    assert stall.blame.rank == 1


def test_fresh_marks_are_progress_however_long_the_step_takes() -> None:
    assert Scene().after(500.0, 0.1, 0.1) is None


def test_the_limit_follows_the_times_of_steps() -> None:
    scene = Scene(step_s=5.0)

    assert scene.after(19.0, 19.0, 19.0) is None
    assert scene.after(2.0, 21.0, 21.0).limit_s == pytest.approx(20.0)


def test_one_slow_step_of_many_does_not_stretch_the_limit() -> None:
    scene = Scene(step_s=0.1, steps=30)
    scene.say(0, step_line(31, 50.0))

    assert scene.after(3.0, 3.0, 3.0).limit_s == 2.0


def test_no_limit_is_past_the_ceiling() -> None:
    assert Scene(step_s=500.0).after(61.0, 61.0, 61.0).limit_s == 60.0


def test_the_first_step_of_a_generation_has_the_ceiling_whatever_was_seen_before() -> None:
    scene = Scene()
    scene.stalls.begin(2, at_s=scene.now_s)
    for rank in (0, 1):
        scene.say(rank, PhaseLine(phase=RankPhase.TRAIN))

    assert scene.after(30.0, 30.0, 30.0) is None
    assert scene.after(31.0, 61.0, 61.0) is not None


@pytest.mark.parametrize("phase", [RankPhase.SAVE, RankPhase.EVALUATE, RankPhase.LOAD])
def test_a_declared_phase_is_no_hang_for_it_and_those_that_wait_for_it(phase) -> None:
    scene = Scene()
    scene.say(0, PhaseLine(phase=phase))

    assert scene.after(300.0, 300.0, 300.0) is None
    assert scene.after(301.0, 601.0, 601.0).limit_s == 600.0


def test_a_phase_that_has_ended_counts_no_more() -> None:
    scene = Scene()
    scene.say(0, PhaseLine(phase=RankPhase.SAVE))
    scene.say(0, PhaseLine(phase=RankPhase.TRAIN))

    assert scene.after(3.0, 3.0, 3.0) is not None


def test_the_limit_of_saving_follows_the_times_of_checkpoints() -> None:
    scene = Scene()
    for step in (1, 2, 3):
        scene.say(0, CheckpointLine(step=step, path="p", duration_s=1.0))
    scene.say(0, PhaseLine(phase=RankPhase.SAVE))

    assert scene.after(11.0, 11.0, 11.0).limit_s == 10.0


def test_a_rank_that_never_marks_is_followed_by_its_steps() -> None:
    scene = Scene()

    assert scene.after(1.5, None, None) is None
    assert scene.after(1.0, None, None) is not None


def test_a_rank_that_is_gone_or_done_does_not_hang() -> None:
    scene = Scene()
    scene.say(0, FinishedLine(step=8))
    scene.stalls.ended(1)

    assert scene.after(100.0, 100.0, 100.0) is None


def test_silence_of_a_host_says_nothing_about_its_ranks() -> None:
    scene = Scene()
    scene.after(0.5, 0.4, 0.4)
    scene.now_s += 100.0

    other = Beat(monotonic_s=1.0, ranks=())
    assert scene.stalls.beat(1, other, at_s=scene.now_s) is None
