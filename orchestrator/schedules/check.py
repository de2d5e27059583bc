"""The law every schedule obeys: each microbatch once through each stage, each way, in order.

A backward is whole (B) or split (I, then W), never both.
"""

from collections.abc import Iterator

from orchestrator.errors import Problem
from orchestrator.schedules.actions import Action, ActionKind, Step
from orchestrator.schedules.schedule import Schedule

_FIRST_NEEDS = {
    ActionKind.BACKWARD: ActionKind.FORWARD,
    ActionKind.INPUT_GRAD: ActionKind.FORWARD,
    ActionKind.WEIGHT_GRAD: ActionKind.INPUT_GRAD,
}
_INSTEAD = {
    ActionKind.BACKWARD: (ActionKind.INPUT_GRAD, ActionKind.WEIGHT_GRAD),
    ActionKind.INPUT_GRAD: (ActionKind.BACKWARD,),
    ActionKind.WEIGHT_GRAD: (ActionKind.BACKWARD,),
}


def problems(schedule: Schedule) -> tuple[Problem, ...]:
    """Return every breach: work missing, repeated, on a wrong rank or before what it needs.

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


def _misplaced(schedule: Schedule, *, rank: int, order: tuple[Step, ...]) -> Iterator[Problem]:
    done: set[Action] = set()
    for step in order:
        # Parts of an overlapped pair start together: neither sees the other as done.
        for action in step.actions:
            breach = _breach(action, schedule=schedule, rank=rank, done=done)
            if breach is not None:
                yield Problem(key=f"rank {rank}", message=f"{action} {breach}")
        done.update(step.actions)


def _breach(action: Action, *, schedule: Schedule, rank: int, done: set[Action]) -> str | None:
    if schedule.rank_of(action.stage) != rank:
        return f"belongs to rank {schedule.rank_of(action.stage)}"
    if action in done:
        return "is done twice"
    for other in _INSTEAD.get(action.kind, ()):
        if _as(other, action) in done:
            return f"repeats {_as(other, action)}"
    needed = _FIRST_NEEDS.get(action.kind)
    if needed is not None and _as(needed, action) not in done:
        return f"comes before {_as(needed, action)}"
    return None


def _missing(schedule: Schedule, *, rank: int, order: tuple[Step, ...]) -> Iterator[Problem]:
    done = {action for step in order for action in step.actions}
    for stage in schedule.stages_of(rank):
        for microbatch in range(schedule.num_microbatches):
            forward = Action(kind=ActionKind.FORWARD, stage=stage, microbatch=microbatch)
            is_split = _as(ActionKind.INPUT_GRAD, forward) in done
            kinds = _INSTEAD[ActionKind.BACKWARD] if is_split else (ActionKind.BACKWARD,)
            for action in (forward, *(_as(kind, forward) for kind in kinds)):
                if action not in done:
                    yield Problem(key=f"rank {rank}", message=f"{action} is never done")


def _as(kind: ActionKind, action: Action) -> Action:
    return Action(kind=kind, stage=action.stage, microbatch=action.microbatch)
