"""torch's lowering of a table: where a rank sends, receives, gathers and reduces.

Three passes, as `_PipelineScheduleRuntime` makes them before it runs a table: UNSHARD and RESHARD
of the stages that come next (three at most are held), REDUCE_GRAD after a stage's last gradient,
then the transfers. For those the ranks take turns, one word each: a word whose input is there is
written, its send follows on the same rank, and its receive at once on the other.
"""

from collections.abc import Iterable, Iterator

from orchestrator.errors import UsageError
from orchestrator.schedules.actions import Action, ActionKind, Step
from orchestrator.schedules.schedule import Schedule

MAX_HELD_STAGES = 3

Word = Step | str
Result = tuple[str, int, int]


def streams(schedule: Schedule) -> tuple[tuple[str, ...], ...]:
    """Return what each rank does.

    Raises:
        UsageError: the ranks would wait for each other for ever.
    """
    lowering = _Lowering(schedule)
    waiting = [list(_reduced(order, schedule)) for order in map(_sharded, schedule.orders)]
    places = [0] * schedule.pp
    while any(place < len(words) for place, words in zip(places, waiting, strict=True)):
        moved = False
        for rank, words in enumerate(waiting):
            if places[rank] < len(words) and lowering.write(words[places[rank]], rank=rank):
                places[rank] += 1
                moved = True
        if not moved:
            raise UsageError(problem="the ranks of this table wait for each other")
    return tuple(map(tuple, lowering.written))


class _Lowering:
    """The words of each rank so far, and the inputs that have come to it."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.written: list[list[str]] = [[] for _ in range(schedule.pp)]
        self.inputs: set[Result] = set()

    def write(self, word: Word, *, rank: int) -> bool:
        """Write a word and what it sends, if its inputs are there."""
        if isinstance(word, str):
            self.written[rank].append(word)
            return True
        if not all(self._is_ready(action) for action in word.actions):
            return False
        self.written[rank].append(str(word))
        for action in word.actions:
            self._pass_on(action, rank=rank)
        return True

    def _is_ready(self, action: Action) -> bool:
        if action.kind is ActionKind.WEIGHT_GRAD:
            return True
        is_forward = action.kind is ActionKind.FORWARD
        if action.stage == (0 if is_forward else self.schedule.num_stages - 1):
            return True
        return ("F" if is_forward else "B", action.stage, action.microbatch) in self.inputs

    def _pass_on(self, action: Action, *, rank: int) -> None:
        if action.kind is ActionKind.WEIGHT_GRAD:
            return
        is_forward = action.kind is ActionKind.FORWARD
        what, target = ("F", action.stage + 1) if is_forward else ("B", action.stage - 1)
        if not 0 <= target < self.schedule.num_stages:
            return
        self.inputs.add((what, target, action.microbatch))
        receiver = self.schedule.rank_of(target)
        if receiver != rank:
            self.written[rank].append(f"{action.stage}SEND_{what}{action.microbatch}")
            self.written[receiver].append(f"{target}RECV_{what}{action.microbatch}")


def _sharded(order: tuple[Step, ...]) -> Iterator[Word]:
    """Yield a rank's steps with the stages gathered before they are needed."""
    upcoming = _upcoming(order)
    held: list[int] = []
    for step, wanted in zip(order, upcoming, strict=True):
        for stage in [stage for stage in held if stage not in wanted]:
            held.remove(stage)
            yield f"{stage}RESHARD"
        for stage in [stage for stage in wanted if stage not in held]:
            held.append(stage)
            yield f"{stage}UNSHARD"
        yield step
    yield from (f"{stage}RESHARD" for stage in held)


def _upcoming(order: tuple[Step, ...]) -> list[list[int]]:
    """Return the stages that come next at each step, nearest first, as many as may be held."""
    found: list[list[int]] = []
    after: list[int] = []
    for step in reversed(order):
        here = [action.stage for action in step.actions]
        after = [*dict.fromkeys(here), *(stage for stage in after if stage not in here)]
        found.append(after)
    return [_first(row) for row in reversed(found)]


def _first(stages: list[int]) -> list[int]:
    return stages[:MAX_HELD_STAGES]


def _reduced(words: Iterable[Word], schedule: Schedule) -> Iterator[Word]:
    """Yield words with each stage's gradients reduced after its last one."""
    left = dict.fromkeys(range(schedule.num_stages), schedule.num_microbatches)
    for word in words:
        yield word
        if isinstance(word, str):
            continue
        for action in word.actions:
            if action.kind in {ActionKind.BACKWARD, ActionKind.WEIGHT_GRAD}:
                left[action.stage] -= 1
                if left[action.stage] == 0:
                    yield f"{action.stage}REDUCE_GRAD"
