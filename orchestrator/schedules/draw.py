"""A picture of a small schedule in plain text: one line a rank, one cell a time slot."""

from itertools import chain
from math import gcd

from orchestrator.schedules.actions import Action, ActionKind
from orchestrator.schedules.schedule import Schedule
from orchestrator.schedules.simulate import Timeline

MAX_COLUMNS = 120
"""Characters of a line; a wider picture would wrap in a terminal."""

_IDLE = "."
_BACKWARD = "'"


def grid(timeline: Timeline) -> str | None:
    """Return the picture of a timeline, None where a line would be longer than `MAX_COLUMNS`.

    A cell names the microbatch; a mark (`3'`) is its backward, a letter before it (`b3`) the
    chunk where ranks hold several, a dot idle time. A slot lasts the greatest time of which
    all starts and ends are multiples: nothing is rounded. Actions that take no time are not
    seen, and where none takes any there is no picture.
    """
    schedule = timeline.schedule
    slot_ns = gcd(*chain(*timeline.starts_ns, *timeline.ends_ns))
    if slot_ns == 0:
        return None
    num_slots = timeline.makespan_ns // slot_ns
    if num_slots > MAX_COLUMNS:
        return None
    label_width = len(_label(schedule.pp - 1))
    cell_width = max(len(_text(action, schedule=schedule)) for action in chain(*schedule.orders))
    if label_width + num_slots * cell_width > MAX_COLUMNS:
        return None
    lines = (
        _label(rank).ljust(label_width)
        + "".join(text.ljust(cell_width) for text in _cells(timeline, rank=rank, slot_ns=slot_ns))
        for rank in range(schedule.pp)
    )
    return "\n".join(line.rstrip() for line in lines)


def _label(rank: int) -> str:
    return f"rank {rank} | "


def _cells(timeline: Timeline, *, rank: int, slot_ns: int) -> list[str]:
    """Return the text of each slot of a rank."""
    schedule = timeline.schedule
    cells = [_IDLE] * (timeline.makespan_ns // slot_ns)
    for action, start_ns, end_ns in zip(
        schedule.orders[rank], timeline.starts_ns[rank], timeline.ends_ns[rank], strict=True
    ):
        for slot in range(start_ns // slot_ns, end_ns // slot_ns):
            cells[slot] = _text(action, schedule=schedule)
    return cells


def _text(action: Action, *, schedule: Schedule) -> str:
    chunk = chr(ord("a") + action.stage // schedule.pp) if schedule.vpp > 1 else ""
    mark = _BACKWARD if action.kind is ActionKind.BACKWARD else ""
    return f"{chunk}{action.microbatch}{mark}"
