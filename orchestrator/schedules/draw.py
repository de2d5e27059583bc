"""A picture of a small schedule in plain text: one line a rank, one cell a time slot."""

from itertools import chain

import numpy as np

from orchestrator.schedules.actions import Action, ActionKind, Step
from orchestrator.schedules.schedule import Schedule
from orchestrator.schedules.simulate import Timeline

MAX_COLUMNS = 120
"""Characters of a line; a wider picture would wrap in a terminal."""

_IDLE = "."
_PAIR = "x"
_LETTERS = np.array(["f", "b", "i", "w"])
_LARGEST_SINGLE = (1 << 32) - 1
_MORE = " >"
_MAX_SLOTS_OF_A_PASS = 20
_MARKS = {
    ActionKind.FORWARD: "",
    ActionKind.BACKWARD: "'",
    ActionKind.INPUT_GRAD: "i",
    ActionKind.WEIGHT_GRAD: "w",
}


def grid(timeline: Timeline) -> str | None:
    """Return the picture of a timeline, None where a line would be longer than `MAX_COLUMNS`.

    A cell names the microbatch; a mark (`3'`) is its backward, `3i` and `3w` the two parts of a
    split one, `3+1'` a forward and a backward in one slot, a letter before it (`b3`) the chunk
    where ranks hold several, a dot idle time. A slot lasts the greatest time of which all
    starts and ends are multiples: nothing is rounded. Actions that take no time are not
    seen, and where none takes any there is no picture.
    """
    slot_ns = _slot_ns(timeline)
    if slot_ns == 0 or timeline.makespan_ns // slot_ns > MAX_COLUMNS:
        return None
    picture = _drawn(timeline, slot_ns=slot_ns, num_slots=timeline.makespan_ns // slot_ns)
    return picture if max(map(len, picture.splitlines())) <= MAX_COLUMNS else None


def beginning(timeline: Timeline) -> str | None:
    """Return the part of a picture that fits in a line, None where not even one slot does.

    Where times have no common part that lets a pass be drawn, there is no picture either.
    """
    slot_ns = _slot_ns(timeline)
    if slot_ns == 0 or _first_end_ns(timeline) // slot_ns > _MAX_SLOTS_OF_A_PASS:
        return None
    width = _cell_width(timeline)
    num_slots = (MAX_COLUMNS - len(_label(timeline.schedule.pp - 1)) - len(_MORE)) // width
    picture = _drawn(timeline, slot_ns=slot_ns, num_slots=num_slots)
    return "\n".join(line + _MORE for line in picture.splitlines())


def outline(timeline: Timeline) -> str:
    """Return a picture of any timeline: each column what runs at the middle of its time.

    A letter is the pass: f forward, b backward, i and w its two parts, x a forward and a backward
    in one slot, a dot idle. Rounded: what is shorter than a column may not be seen.
    """
    schedule = timeline.schedule
    label_width = len(_label(schedule.pp - 1))
    num_columns = MAX_COLUMNS - label_width
    # In units of half a column, so that middles are whole numbers.
    middles_ns = (2 * np.arange(num_columns) + 1) * timeline.makespan_ns // (2 * num_columns)
    lines = []
    for rank in range(schedule.pp):
        places = np.searchsorted(timeline.starts_ns[rank], middles_ns, side="right") - 1
        runs = (places >= 0) & (timeline.ends_ns[rank][places] > middles_ns)
        codes = schedule.codes[rank][places]
        letters = np.where(codes > _LARGEST_SINGLE, _PAIR, _LETTERS[codes % len(_LETTERS)])
        row = "".join(np.where(runs, letters, _IDLE).tolist())
        lines.append(_label(rank).ljust(label_width) + row)
    return "\n".join(lines)


def _slot_ns(timeline: Timeline) -> int:
    """Return the greatest common divisor of all starts and ends."""
    return int(np.gcd.reduce(np.concatenate([*timeline.starts_ns, *timeline.ends_ns])))


def _first_end_ns(timeline: Timeline) -> int:
    return int(timeline.ends_ns[0][0])


def _drawn(timeline: Timeline, *, slot_ns: int, num_slots: int) -> str:
    schedule = timeline.schedule
    label_width, cell_width = len(_label(schedule.pp - 1)), _cell_width(timeline)
    lines = []
    for rank in range(schedule.pp):
        cells = _cells(timeline, rank=rank, slot_ns=slot_ns, num_slots=num_slots)
        row = "".join(text.ljust(cell_width) for text in cells)
        lines.append((_label(rank).ljust(label_width) + row).rstrip())
    return "\n".join(lines)


def _cell_width(timeline: Timeline) -> int:
    schedule = timeline.schedule
    return max(len(text_of(step, schedule=schedule)) for step in chain(*schedule.orders))


def _label(rank: int) -> str:
    return f"rank {rank} | "


def text_of(step: Step, *, schedule: Schedule) -> str:
    """Return the text of a cell."""
    return "+".join(_action_text(action, schedule=schedule) for action in step.actions)


def _cells(timeline: Timeline, *, rank: int, slot_ns: int, num_slots: int) -> list[str]:
    """Return the text of each slot of a rank, up to a number of slots."""
    schedule = timeline.schedule
    cells = [_IDLE] * num_slots
    for step, start_ns, end_ns in zip(
        schedule.order(rank),
        timeline.starts_ns[rank].tolist(),
        timeline.ends_ns[rank].tolist(),
        strict=True,
    ):
        for slot in range(start_ns // slot_ns, min(end_ns // slot_ns, num_slots)):
            cells[slot] = text_of(step, schedule=schedule)
    return cells


def _action_text(action: Action, *, schedule: Schedule) -> str:
    chunk = chr(ord("a") + action.stage // schedule.pp) if schedule.vpp > 1 else ""
    return f"{chunk}{action.microbatch}{_MARKS[action.kind]}"
