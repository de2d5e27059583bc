"""What an agent tells again to a controller that takes over: all that decides, and what is untold.

A controller that died may have lost the last things it was told. What is told twice changes
nothing, so each new one hears all that its decisions rest on: of each rank its start, its phase,
its last checkpoints and how it ended. Steps are told once; those that nobody was there for are
kept, up to a limit.
"""

from collections import deque

from launch.rank_lines import CheckpointLine, EvaluationLine, StepLine
from launch.wire import Exited, InstructionFailed, RankLine, Started, ToController

_MOST_UNTOLD = 10_000
_KEPT_CHECKPOINTS = 4  # of each rank; older ones are committed, or will never be
_Key = tuple[str, int, int]


class Memory:
    """The reports of one generation."""

    def __init__(self) -> None:
        self._kept: dict[_Key, ToController] = {}
        self._untold: deque[ToController] = deque(maxlen=_MOST_UNTOLD)

    def forget(self) -> None:
        """A new generation: nobody asks for the old one."""
        self._kept.clear()
        self._untold.clear()

    def keep(self, record: ToController, *, untold: bool) -> None:
        """Remember a report as long as it may be needed."""
        key = _key(record)
        if key is not None:
            self._kept.pop(key, None)  # the newest comes last
            self._kept[key] = record
            self._drop_old_checkpoints(key)
        elif untold and _is_a_step(record):
            self._untold.append(record)

    def told_again(self) -> tuple[ToController, ...]:
        """What a new controller is told."""
        records = (*self._untold, *self._kept.values())
        self._untold.clear()
        return records

    def _drop_old_checkpoints(self, key: _Key) -> None:
        kind, rank, _ = key
        if kind == CheckpointLine.KIND:
            same = [k for k in self._kept if k[:2] == (kind, rank)]
            for old in same[:-_KEPT_CHECKPOINTS]:
                del self._kept[old]


def _key(record: ToController) -> _Key | None:
    """Which report a newer one replaces; None for those that decide nothing."""
    match record:
        case Started() | Exited():
            return (record.KIND, record.rank, 0)
        case InstructionFailed():
            return (record.KIND, 0, 0)
        case RankLine(record=StepLine() | EvaluationLine()):
            return None
        case RankLine(record=CheckpointLine(step=step), rank=rank):
            return (CheckpointLine.KIND, rank, step)
        case RankLine():
            return (record.record.KIND, record.rank, 0)
        case _:
            return None


def _is_a_step(record: ToController) -> bool:
    return isinstance(record, RankLine) and isinstance(record.record, StepLine | EvaluationLine)
