"""Our 1F1B against DeepSpeed's TrainSchedule: every instruction of every step, with its buffer."""

import itertools

import pytest

from launch.workers.engine_check.cases import Case
from orchestrator.schedules.closed_forms import peak_in_flight
from orchestrator.schedules.schedule import arranged
from orchestrator.schedules.streams import deepspeed as ours
from orchestrator.specs.choices import ScheduleKind

pytest.importorskip("deepspeed.runtime.pipe.schedule")
engine = pytest.importorskip("launch.workers.engine_check.deepspeed_schedule")
pipe = pytest.importorskip("deepspeed.runtime.pipe.schedule")


def test_1f1b_is_the_instruction_stream_of_deepspeed():
    compared = 0
    for pp, m in itertools.product(range(1, 17), range(1, 40)):
        words = {"pp": pp, "vpp": 1, "num_microbatches": m, "microbatch_group_size": 1}
        schedule = arranged(ScheduleKind.ONE_F_ONE_B, **words)
        for rank in range(pp):
            theirs = engine.record(Case(engine="deepspeed", schedule="1f1b", **words, rank=rank))
            assert tuple(map(str, schedule.order(rank))) == theirs.order, (words, rank)
            assert ours.stream(schedule, rank=rank) == theirs.stream, (words, rank)
            compared += 1

    assert compared == 5304


def test_deepspeed_keeps_as_many_buffers_as_are_in_flight_and_two_at_least():
    for pp, m in itertools.product(range(1, 9), range(1, 20)):
        for rank in range(pp):
            theirs = pipe.TrainSchedule(micro_batches=m, stages=pp, stage_id=rank)
            held = peak_in_flight(
                ScheduleKind.ONE_F_ONE_B,
                pp=pp,
                vpp=1,
                num_microbatches=m,
                microbatch_group_size=1,
                rank=rank,
            )

            assert theirs.num_pipe_buffers() == max(2, held)
