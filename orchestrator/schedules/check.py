"""The law every schedule obeys: each microbatch once through each stage, each way, in order."""

from collections.abc import Iterator

from orchestrator.errors import Problem
from orchestrator.schedules.actions import Action, ActionKind
from orchestrator.schedules.schedule import Schedule


def problems(schedule: Schedule) -> tuple[Problem, ...]:
    """Return every breach: work missing, repeated, on a wrong rank or before its forward.

    Whether ranks wait for each other for ever is not seen here; `simulate` finds it.
    """
    return tuple(
        problem
        for rank, order in enumerate(schedule.orders)
        for problem in (
            *_misplaced(schedule, rank=rank, order=order),
            *_missing(schedule, rank=rank, order=order),
        )
    )


def _misplaced(schedule: Schedule, *, rank: int, order: tuple[Action, ...]) -> Iterator[Problem]:
    done: set[Action] = set()
    for action in order:
        breach = _breach(action, schedule=schedule, rank=rank, done=done)
        if breach is not None:
            yield Problem(key=f"rank {rank}", message=f"{action} {breach}")
        done.add(action)


def _breach(action: Action, *, schedule: Schedule, rank: int, done: set[Action]) -> str | None:
    if not 0 <= action.stage < schedule.num_stages:
        return f"names a stage past the {schedule.num_stages} of the pipeline"
    if not 0 <= action.microbatch < schedule.num_microbatches:
        return f"names a microbatch past the {schedule.num_microbatches} of the step"
    if schedule.rank_of(action.stage) != rank:
        return f"belongs to rank {schedule.rank_of(action.stage)}"
    if action in done:
        return "is done twice"
    if action.kind is ActionKind.BACKWARD and _forward_of(action) not in done:
        return f"comes before {_forward_of(action)}"
    return None


def _missing(schedule: Schedule, *, rank: int, order: tuple[Action, ...]) -> Iterator[Problem]:
    done = set(order)
    for stage in schedule.stages_of(rank):
        for microbatch in range(schedule.num_microbatches):
            for kind in ActionKind:
                action = Action(kind=kind, stage=stage, microbatch=microbatch)
                if action not in done:
                    yield Problem(key=f"rank {rank}", message=f"{action} is never done")


def _forward_of(action: Action) -> Action:
    return Action(kind=ActionKind.FORWARD, stage=action.stage, microbatch=action.microbatch)
