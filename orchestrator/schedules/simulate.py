"""When each action starts and ends, by exact event simulation in integer nanoseconds.

A rank runs its actions strictly in order and starts each as soon as its input is there:

- a forward needs the forward of the stage before;
- a backward needs the backward of the stage after, or on the last stage its own forward;
- an input from another rank arrives `latency_ns` after it was made. Communication is free
  otherwise: it blocks neither side, as with Megatron's overlapped sends.

Ranks that wait for each other for ever are an answer too: `Deadlock` names the circle.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from operator import sub
from typing import NamedTuple, Self

from typing_extensions import override

from orchestrator.schedules.actions import Action, ActionKind
from orchestrator.schedules.schedule import Schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTimes:
    """How long each stage takes for one microbatch, and how long a tensor travels (ns)."""

    forward_ns: tuple[int, ...]
    backward_ns: tuple[int, ...]
    latency_ns: int = 0

    @classmethod
    def uniform(
        cls, *, num_stages: int, forward_ns: int, backward_ns: int, latency_ns: int = 0
    ) -> Self:
        """Return the times of stages that are all equal."""
        return cls(
            forward_ns=(forward_ns,) * num_stages,
            backward_ns=(backward_ns,) * num_stages,
            latency_ns=latency_ns,
        )

    def of(self, action: Action) -> int:
        """Return how long an action runs, in nanoseconds."""
        if action.kind is ActionKind.FORWARD:
            return self.forward_ns[action.stage]
        return self.backward_ns[action.stage]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """Start and end of every action, in the schedule's shape: one row a rank."""

    schedule: Schedule
    starts_ns: tuple[tuple[int, ...], ...]
    ends_ns: tuple[tuple[int, ...], ...]
    busy_ns: tuple[int, ...]

    @property
    def makespan_ns(self) -> int:
        """Time from the start of the step to the last end over all ranks."""
        return max(ends[-1] for ends in self.ends_ns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """A rank that cannot go on: its next action and the one whose result that needs."""

    rank: int
    action: Action
    needs: Action

    @override
    def __str__(self) -> str:
        return f"rank {self.rank} waits at {self.action} for {self.needs}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlock:
    """Ranks that wait in a circle: each needs an action that the next one has not come to."""

    waits: tuple[Wait, ...]

    @override
    def __str__(self) -> str:
        return ", ".join(map(str, self.waits))


def simulate(schedule: Schedule, *, times: StageTimes) -> Timeline | Deadlock:
    """Return when every action of a schedule runs, or the circle in which ranks wait.

    The schedule is one in which `check` finds nothing wrong.
    """
    run = _Run(schedule=schedule, times=times)
    ready = list(range(schedule.pp))
    while ready:
        ready += run.advance(ready.pop())
    if run.waiting:
        return Deadlock(waits=_circle(run))
    takes = tuple(tuple(map(times.of, order)) for order in schedule.orders)
    return Timeline(
        schedule=schedule,
        starts_ns=tuple(
            tuple(map(sub, ends, taken)) for ends, taken in zip(run.ends_ns, takes, strict=True)
        ),
        ends_ns=tuple(map(tuple, run.ends_ns)),
        busy_ns=tuple(map(sum, takes)),
    )


class _Step(NamedTuple):  # not a dataclass: one takes three times as long to make
    """An action as the slot that it fills, the slot that it needs filled, and its times."""

    fills: int
    needs: int
    takes_ns: int
    lag_ns: int


class _Run:
    """How far each rank has come.

    Every result has a slot, 2 x (stage x microbatches + microbatch), one more for a backward's:
    `made_ns` says since when it exists and `waiting` which rank waits for it (one at most, as
    one other action needs it). A slot past the results is the step's input, there from 0.
    """

    def __init__(self, *, schedule: Schedule, times: StageTimes) -> None:
        self.schedule = schedule
        self.made_ns: list[int | None] = [None] * _input_slot(schedule)
        self.made_ns.append(0)
        self.waiting: dict[int, int] = {}
        self.ends_ns: list[list[int]] = [[] for _ in schedule.orders]
        self.steps = [
            _steps(order, rank=rank, schedule=schedule, times=times)
            for rank, order in enumerate(schedule.orders)
        ]
        self.held: list[_Step | None] = [next(steps, None) for steps in self.steps]

    def advance(self, rank: int) -> list[int]:
        """Run a rank until it waits or is done; return the ranks that it set free."""
        made_ns, ends_ns, waiting = self.made_ns, self.ends_ns[rank], self.waiting
        now_ns = ends_ns[-1] if ends_ns else 0
        freed = []
        step = self.held[rank]
        while step is not None:
            made = made_ns[step.needs]
            if made is None:
                waiting[step.needs] = rank
                break
            now_ns = max(now_ns, made + step.lag_ns) + step.takes_ns
            ends_ns.append(now_ns)
            made_ns[step.fills] = now_ns
            if step.fills in waiting:
                freed.append(waiting.pop(step.fills))
            step = next(self.steps[rank], None)
        self.held[rank] = step
        return freed


def _steps(
    order: tuple[Action, ...], *, rank: int, schedule: Schedule, times: StageTimes
) -> Iterator[_Step]:
    last_stage = schedule.num_stages - 1
    one_stage = 2 * schedule.num_microbatches
    for action in order:
        stage = action.stage
        fills = one_stage * stage + 2 * action.microbatch
        if action.kind is ActionKind.FORWARD:
            source = stage - 1
            needs = fills - one_stage if stage > 0 else _input_slot(schedule)
        else:
            source = stage + 1
            fills += 1
            needs = fills + one_stage if stage < last_stage else fills - 1
        is_remote = 0 <= source <= last_stage and schedule.rank_of(source) != rank
        yield _Step(fills, needs, times.of(action), times.latency_ns if is_remote else 0)


def _input_slot(schedule: Schedule) -> int:
    return 2 * schedule.num_stages * schedule.num_microbatches


def _action_at(slot: int, *, schedule: Schedule) -> Action:
    """Return the action that fills a slot."""
    unit, is_backward = divmod(slot, 2)
    stage, microbatch = divmod(unit, schedule.num_microbatches)
    kind = ActionKind.BACKWARD if is_backward else ActionKind.FORWARD
    return Action(kind=kind, stage=stage, microbatch=microbatch)


def _circle(run: _Run) -> tuple[Wait, ...]:
    """Return the waits of a circle, found by following who waits for whom."""
    schedule = run.schedule
    waits = {
        rank: Wait(
            rank=rank,
            action=schedule.orders[rank][len(run.ends_ns[rank])],
            needs=_action_at(slot, schedule=schedule),
        )
        for slot, rank in run.waiting.items()
    }
    path: list[int] = []
    rank = min(waits)
    while rank not in path:
        path.append(rank)
        rank = schedule.rank_of(waits[rank].needs.stage)
    return tuple(waits[rank] for rank in path[path.index(rank) :])
