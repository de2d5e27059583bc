"""torch's loops of GPipe and 1F1B: what a rank computes and sends.

1F1B here runs one warm-up forward more than Megatron and then backward before forward: the order
of computations is the same, the calls join other transfers.
"""

from collections.abc import Iterator

from orchestrator.errors import UsageError
from orchestrator.schedules.schedule import Schedule
from orchestrator.schedules.streams.megatron import call_text
from orchestrator.specs.choices import ScheduleKind


def stream(schedule: Schedule, *, rank: int) -> tuple[str, ...]:
    """Return what a rank does, calls without a transfer left out.

    Raises:
        UsageError: torch runs the schedule from a table, see `torch_tables`.
    """
    loop = _Loop(schedule, rank)
    if schedule.kind is ScheduleKind.GPIPE:
        words = loop.gpipe()
    elif schedule.kind is ScheduleKind.ONE_F_ONE_B:
        words = loop.one_f_one_b()
    else:
        raise UsageError(problem=f"torch has no loop of {schedule.kind}")
    return tuple(word for word in words if word)


class _Loop:
    def __init__(self, schedule: Schedule, rank: int) -> None:
        self.pp, self.m, self.rank = schedule.pp, schedule.num_microbatches, rank

    def gpipe(self) -> Iterator[str]:
        for microbatch in range(self.m):
            yield self.before("RECV_F", microbatch)
            yield f"{self.rank}F{microbatch}"
            yield self.after("SEND_F", microbatch)
        for microbatch in range(self.m):
            yield from self.backward(microbatch)

    def one_f_one_b(self) -> Iterator[str]:
        warmup = min(self.m, self.pp - self.rank)
        for microbatch in range(warmup):
            yield self.before("RECV_F", microbatch)
            yield f"{self.rank}F{microbatch}"
            if microbatch < warmup - 1:
                yield self.after("SEND_F", microbatch)
        for forward in range(warmup, self.m):
            backward = forward - warmup
            yield call_text(self.after("SEND_F", forward - 1), self.after("RECV_B", backward))
            yield f"{self.rank}B{backward}"
            yield call_text(self.before("SEND_B", backward), self.before("RECV_F", forward))
            yield f"{self.rank}F{forward}"
        first = self.m - warmup
        yield call_text(self.after("SEND_F", self.m - 1), self.after("RECV_B", first))
        yield f"{self.rank}B{first}"
        yield self.before("SEND_B", first)
        for microbatch in range(first + 1, self.m):
            yield from self.backward(microbatch)

    def backward(self, microbatch: int) -> Iterator[str]:
        yield self.after("RECV_B", microbatch)
        yield f"{self.rank}B{microbatch}"
        yield self.before("SEND_B", microbatch)

    def before(self, what: str, microbatch: int) -> str:
        """A transfer with the rank before, if there is one."""
        return f"{self.rank}{what}{microbatch}" if self.rank > 0 else ""

    def after(self, what: str, microbatch: int) -> str:
        """A transfer with the rank after, if there is one."""
        return f"{self.rank}{what}{microbatch}" if self.rank < self.pp - 1 else ""
