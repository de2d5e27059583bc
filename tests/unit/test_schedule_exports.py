"""Schedules in the formats of other programs."""

import json
from collections import defaultdict
from xml.etree import ElementTree as ET

import pytest

from orchestrator.errors import UsageError
from orchestrator.schedules.exports import csv, svg, trace
from orchestrator.schedules.memory import StageMemory
from orchestrator.schedules.schedule import build
from orchestrator.schedules.simulate import Timeline, simulate
from orchestrator.schedules.times import StageTimes
from orchestrator.specs.choices import ScheduleKind

KINDS = [ScheduleKind.ONE_F_ONE_B, ScheduleKind.COMBINED, ScheduleKind.ZB_V]


def timeline(kind: ScheduleKind, num_microbatches: int = 8) -> Timeline:
    vpp = 1 if kind is ScheduleKind.ONE_F_ONE_B else 2
    schedule = build(
        kind, pp=4, vpp=vpp, num_microbatches=num_microbatches, microbatch_group_size=4
    )
    times = StageTimes.uniform(
        num_stages=4 * vpp, forward_ns=1500, backward_ns=3000, latency_ns=100
    )
    answer = simulate(schedule, times=times)
    assert isinstance(answer, Timeline)
    return answer


@pytest.mark.parametrize("kind", KINDS)
def test_a_csv_table_reads_back(kind):
    schedule = timeline(kind).schedule

    assert csv.orders_of(csv.text_of(schedule)) == schedule.orders


def test_a_csv_row_is_a_rank_in_torchs_words():
    rows = csv.text_of(timeline(ScheduleKind.ONE_F_ONE_B).schedule).splitlines()

    assert len(rows) == 4
    assert rows[3].startswith("3F0,3B0,3F1,3B1,")


def test_empty_cells_of_a_table_are_idle_slots():
    assert csv.orders_of("0F0,,0B0\n") == csv.orders_of("0F0,0B0\n")


@pytest.mark.parametrize(("text", "match"), [("", "empty"), ("0F0,0X0\n", "0X0")])
def test_what_is_no_table_is_refused(text, match):
    with pytest.raises(UsageError, match=match):
        csv.orders_of(text)


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_has_a_box_for_each_action_as_long_as_it_takes(kind):
    made = timeline(kind)
    root = ET.fromstring(svg.text_of(made))
    boxes = root.findall("{*}g")

    actions = [str(action) for order in made.schedule.orders for s in order for action in s.actions]
    named = [box.find("{*}title").text.split(":")[0] for box in boxes]
    assert sorted(named) == sorted(actions)
    widths = [float(box.find("{*}rect").get("width")) for box in boxes]
    longest = {ScheduleKind.ONE_F_ONE_B: 2, ScheduleKind.COMBINED: 3, ScheduleKind.ZB_V: 1}[kind]
    assert max(widths) == pytest.approx(longest * min(widths), rel=0.01)


def test_a_picture_of_too_many_steps_is_refused():
    with pytest.raises(UsageError, match=r"24,000 steps is more than 20,000"):
        svg.text_of(timeline(ScheduleKind.ONE_F_ONE_B, 3000))


@pytest.mark.parametrize("kind", KINDS)
def test_a_trace_has_true_durations_and_an_arrow_for_each_tensor_between_ranks(kind):
    made = timeline(kind)
    events = json.loads(trace.text_of(made))["traceEvents"]
    by_phase = defaultdict(list)
    for event in events:
        by_phase[event["ph"]].append(event)

    slices = {(event["tid"], event["ts"], event["dur"]) for event in by_phase["X"]}
    expected = {
        (rank, start / 1000, (end - start) / 1000)
        for rank in range(4)
        for start, end in zip(
            made.starts_ns[rank].tolist(), made.ends_ns[rank].tolist(), strict=True
        )
    }
    assert slices == expected
    schedule = made.schedule
    hops = [
        abs(schedule.rank_of(stage) - schedule.rank_of(stage + 1)) > 0
        for stage in range(schedule.num_stages - 1)
    ]
    assert len(by_phase["s"]) == len(by_phase["f"]) == 2 * 8 * sum(hops)
    ends = {event["id"]: event for event in by_phase["f"]}
    assert all(ends[event["id"]]["ts"] > event["ts"] for event in by_phase["s"])
    assert all(ends[event["id"]]["tid"] != event["tid"] for event in by_phase["s"])


def test_a_traces_counter_begins_and_ends_as_memory_says():
    made = timeline(ScheduleKind.ZB_V)
    held_by = StageMemory(activation_bytes=(1000,) * 8)
    events = json.loads(trace.text_of(made, memory=held_by))["traceEvents"]
    counts = [event for event in events if event["ph"] == "C" and event["tid"] == 0]

    values = [event["args"]["bytes"] for event in counts]
    assert values[0] == 1000
    assert values[-1] == 0
    assert max(values) == 8000
    assert [event["ts"] for event in counts] == sorted(event["ts"] for event in counts)
