"""The makespan of one schedule under many times: what does not depend on times is done once."""

from dataclasses import replace

import numpy as np

from orchestrator.errors import UsageError
from orchestrator.schedules import cycles, fast, memory
from orchestrator.schedules.memory import StageMemory
from orchestrator.schedules.program import program_of
from orchestrator.schedules.schedule import Schedule
from orchestrator.schedules.simulate import FAST_FROM_STEPS, run_compiled, run_plain
from orchestrator.schedules.times import StageTimes
from orchestrator.specs.choices import ScheduleKind

_UNIT_NS = 1


class Evaluator:
    """Answers for a schedule that runs; 1F1B by skipping rounds, others by simulation."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self._codes = np.concatenate(schedule.codes)
        unit = StageTimes.uniform(
            num_stages=schedule.num_stages,
            forward_ns=_UNIT_NS,
            backward_ns=_UNIT_NS,
            latency_ns=_UNIT_NS,
        )
        self._program = program_of(schedule, times=unit)

    def makespan_ns(self, times: StageTimes) -> int:
        """Return the makespan under some times.

        Raises:
            UsageError: the ranks wait for each other.
        """
        if self.schedule.kind in {ScheduleKind.ONE_F_ONE_B, ScheduleKind.NO_PIPELINE}:
            return cycles.one_f_one_b_makespan_ns(
                times, num_microbatches=self.schedule.num_microbatches
            )
        takes_ns = np.zeros_like(self._program.takes_ns)
        takes_ns[self._program.slots] = times.durations(self._codes, self.schedule.numbering)
        timed = replace(
            self._program, takes_ns=takes_ns, lags_ns=self._program.lags_ns * times.latency_ns
        )
        compiles = timed.num_steps >= FAST_FROM_STEPS and fast.is_available()
        ends_ns, cursors = (run_compiled if compiles else run_plain)(timed)
        if np.any(cursors < timed.offsets[1:]):
            raise UsageError(problem="the ranks of this schedule wait for each other")
        return int(ends_ns.max())

    def peak_bytes(self, held_by: StageMemory) -> tuple[int, ...]:
        """Return the most that each rank holds at once."""
        return memory.peak_bytes(self.schedule, held_by)
