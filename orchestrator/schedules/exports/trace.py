"""A timeline as a Perfetto trace (Chrome's JSON): open it at ui.perfetto.dev.

One process, one thread a rank. Slices last what they take, in microseconds with nanoseconds as
decimals; arrows join what one rank makes to what another does with it; a counter a rank shows
what activations it holds, in chunks or in bytes.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.schedules import memory as memories
from orchestrator.schedules.actions import Action, ActionKind
from orchestrator.schedules.memory import StageMemory
from orchestrator.schedules.simulate import Timeline

_NS_PER_US = 1000
_NAMES = {
    ActionKind.FORWARD: "forward",
    ActionKind.BACKWARD: "backward",
    ActionKind.INPUT_GRAD: "input gradient",
    ActionKind.WEIGHT_GRAD: "weight gradient",
}
_COUNTED = "chunks"
_BYTES = "bytes"

Event = Mapping[str, Any]


def text_of(timeline: Timeline, *, memory: StageMemory | None = None) -> str:
    """Return the trace; the counter is in bytes where `memory` says them, else in chunks."""
    events = ",\n".join(json.dumps(event) for event in events_of(timeline, memory=memory))
    return f'{{"displayTimeUnit": "ns", "traceEvents": [\n{events}\n]}}\n'


def events_of(timeline: Timeline, *, memory: StageMemory | None = None) -> Iterator[Event]:
    """Yield the events of a trace."""
    schedule = timeline.schedule
    unit = _BYTES if memory else _COUNTED
    held_by = memory or StageMemory.counted(schedule.num_stages)
    name = f"{schedule.kind} pp {schedule.pp} vpp {schedule.vpp} m {schedule.num_microbatches}"
    yield {"ph": "M", "pid": 0, "name": "process_name", "args": {"name": name}}
    for rank in range(schedule.pp):
        yield {
            "ph": "M",
            "pid": 0,
            "tid": rank,
            "name": "thread_name",
            "args": {"name": f"rank {rank}"},
        }
    places = _places(timeline)
    for rank in range(schedule.pp):
        yield from _slices(timeline, rank)
        yield from _counter(timeline, rank, held_by=held_by, unit=unit)
    yield from _flows(timeline, places)


def _slices(timeline: Timeline, rank: int) -> Iterator[Event]:
    for step, start_ns, end_ns in zip(
        timeline.schedule.order(rank),
        timeline.starts_ns[rank].tolist(),
        timeline.ends_ns[rank].tolist(),
        strict=True,
    ):
        yield {
            "ph": "X",
            "pid": 0,
            "tid": rank,
            "ts": start_ns / _NS_PER_US,
            "dur": (end_ns - start_ns) / _NS_PER_US,
            "name": " + ".join(f"{_letter(one)}{one.microbatch}" for one in step.actions),
            "cat": " + ".join(_NAMES[one.kind] for one in step.actions),
            "args": {
                "action": str(step),
                "stage": [one.stage for one in step.actions],
                "microbatch": [one.microbatch for one in step.actions],
            },
        }


def _counter(timeline: Timeline, rank: int, *, held_by: StageMemory, unit: str) -> Iterator[Event]:
    """Yield what a rank holds from the start of each slot, and from its end."""
    schedule = timeline.schedule
    held = memories.held_bytes(schedule, rank, held_by).tolist()
    freed = {one.slot: one.released_bytes for one in memories.releases(schedule, rank, held_by)}
    rows = zip(timeline.starts_ns[rank].tolist(), timeline.ends_ns[rank].tolist(), strict=True)
    for slot, (start_ns, end_ns) in enumerate(rows):
        moments = {start_ns: held[slot], end_ns: held[slot] - freed.get(slot, 0)}
        for moment_ns, value in moments.items():
            yield {
                "ph": "C",
                "pid": 0,
                "tid": rank,
                "name": f"held by rank {rank} ({unit})",
                "ts": moment_ns / _NS_PER_US,
                "args": {unit: value},
            }


def _flows(timeline: Timeline, places: Mapping[str, tuple[int, int, int]]) -> Iterator[Event]:
    """Yield an arrow for each tensor that goes from one rank to another."""
    schedule = timeline.schedule
    number = 0
    for action in _actions(timeline):
        target = action.stage + (1 if action.kind is ActionKind.FORWARD else -1)
        is_sent = action.kind is not ActionKind.WEIGHT_GRAD and 0 <= target < schedule.num_stages
        rank, start_ns, end_ns = places[str(action)]
        if not is_sent or schedule.rank_of(target) == rank:
            continue
        reader = _reader(action, target, places)
        number += 1
        shared = {"pid": 0, "id": number, "cat": "p2p", "name": _sent_name(action)}
        # An arrow binds to the slice around its moment: the ends are drawn inside the slices.
        yield {"ph": "s", "tid": rank, "ts": (start_ns + end_ns) / 2 / _NS_PER_US, **shared}
        reader_rank, reader_ns, reader_end_ns = reader
        moment_ns = (reader_ns + reader_end_ns) / 2
        yield {"ph": "f", "bp": "e", "tid": reader_rank, "ts": moment_ns / _NS_PER_US, **shared}


def _places(timeline: Timeline) -> dict[str, tuple[int, int, int]]:
    """Return the rank, start and end of each action."""
    places = {}
    for rank in range(timeline.schedule.pp):
        for step, start_ns, end_ns in zip(
            timeline.schedule.order(rank),
            timeline.starts_ns[rank].tolist(),
            timeline.ends_ns[rank].tolist(),
            strict=True,
        ):
            for action in step.actions:
                places[str(action)] = (rank, start_ns, end_ns)
    return places


def _actions(timeline: Timeline) -> Iterator[Action]:
    for order in timeline.schedule.orders:
        for step in order:
            yield from step.actions


def _reader(
    action: Action, target: int, places: Mapping[str, tuple[int, int, int]]
) -> tuple[int, int, int]:
    if action.kind is ActionKind.FORWARD:
        return places[f"{target}F{action.microbatch}"]
    whole = places.get(f"{target}B{action.microbatch}")
    return whole or places[f"{target}I{action.microbatch}"]


def _sent_name(action: Action) -> str:
    what = "activation" if action.kind is ActionKind.FORWARD else "gradient"
    return f"{what} of microbatch {action.microbatch}"


def _letter(action: Action) -> str:
    return action.kind.value
