"""What an agent tells again to a controller that takes over."""

from launch.agent.memory import Memory
from launch.rank_lines import CheckpointLine, StepLine
from launch.wire import Exited, RankLine, Started

STARTED = Started(generation=1, rank=0, pid=9)
EXITED = Exited(generation=1, rank=0, pid=9, exit_code=0, signal=None, tail=())


def step(number: int) -> RankLine:
    line = StepLine(
        step=number, loss=None, grad_norm=None, learning_rate=None, tokens=1, duration_s=0.1
    )
    return RankLine(generation=1, rank=0, record=line)


def staged(number: int) -> RankLine:
    line = CheckpointLine(step=number, path="p", duration_s=0.1)
    return RankLine(generation=1, rank=0, record=line)


def test_what_decides_is_told_to_each_new_controller_and_steps_once() -> None:
    memory = Memory()
    memory.keep(STARTED, untold=False)
    memory.keep(step(1), untold=False)
    memory.keep(step(2), untold=True)
    memory.keep(EXITED, untold=True)

    assert memory.told_again() == (step(2), STARTED, EXITED)
    assert memory.told_again() == (STARTED, EXITED)


def test_only_the_newest_checkpoints_of_a_rank_are_kept() -> None:
    memory = Memory()
    for number in range(1, 8):
        memory.keep(staged(number), untold=False)

    assert memory.told_again() == tuple(staged(number) for number in (4, 5, 6, 7))


def test_a_new_generation_forgets_the_old_one() -> None:
    memory = Memory()
    memory.keep(STARTED, untold=False)

    memory.forget()

    assert memory.told_again() == ()
