"""What DeepSpeed's TrainSchedule yields: the instructions of each step, buffers and all."""

from deepspeed.runtime.pipe.schedule import TrainSchedule

from launch.workers.engine_check.cases import Case, Recording


def record(case: Case) -> Recording:
    """Return the instructions of one rank, the empty steps too."""
    schedule = TrainSchedule(
        micro_batches=case.num_microbatches, stages=case.pp, stage_id=case.rank
    )
    order, stream = [], []
    for step, instructions in enumerate(schedule.steps()):
        words = [repr(instruction) for instruction in instructions]
        stream.append("; ".join(words))
        microbatch, is_forward = schedule._step_to_micro_batch(step)  # noqa: SLF001
        if any(word.startswith(("ForwardPass", "BackwardPass")) for word in words):
            order.append(f"{case.rank}{'F' if is_forward else 'B'}{microbatch}")
    return Recording(order=tuple(order), stream=tuple(stream))
