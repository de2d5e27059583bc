"""Megatron-Core's loops: what a rank computes and which transfers it makes between.

Source: `megatron.core.pipeline_parallel.schedules` 0.16.1, recorded in tests. The loop receives
one step ahead: what it reads next arrives while it computes this.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.schedules import interleaved
from orchestrator.schedules.actions import ActionKind
from orchestrator.schedules.schedule import Schedule
from orchestrator.specs.choices import ScheduleKind


class P2p(StrEnum):
    """How the interleaved loop communicates.

    `BATCHED`: one call for what goes both ways. `OVERLAPPED` (`overlap_p2p_comm`): calls that
    do not wait, forward and backward apart. `OVERLAPPED_TO_THE_ENDS` (also
    `overlap_p2p_comm_warmup_flush`): in warm-up and drain too.
    """

    BATCHED = "batched"
    OVERLAPPED = "overlapped"
    OVERLAPPED_TO_THE_ENDS = "overlapped-to-the-ends"


def stream(schedule: Schedule, *, rank: int, p2p: P2p = P2p.BATCHED) -> tuple[str, ...]:
    """Return what a rank does, calls without a transfer left out."""
    is_one = schedule.kind in {ScheduleKind.NO_PIPELINE, ScheduleKind.ONE_F_ONE_B}
    writer = _OneChunk(schedule, rank) if is_one else _Chunks(schedule, rank, p2p)
    return tuple(word for word in writer.words() if word)


def call_text(*transfers: str) -> str:
    """Return the text of one call; "" where it moves nothing."""
    return "+".join(sorted(transfer for transfer in transfers if transfer))


@dataclass(frozen=True, slots=True)
class _OneChunk:
    """1F1B: receive, compute, send, one after the other."""

    schedule: Schedule
    rank: int

    def words(self) -> Iterator[str]:
        m, rank = self.schedule.num_microbatches, self.rank
        warmup = min(self.schedule.pp - rank - 1, m)
        for forward in range(warmup):
            yield self.before("RECV_F", forward)
            yield f"{rank}F{forward}"
            yield self.after("SEND_F", forward)
        if warmup < m:
            yield self.before("RECV_F", warmup)
        for backward in range(m - warmup):
            forward = backward + warmup
            yield f"{rank}F{forward}"
            yield call_text(self.after("SEND_F", forward), self.after("RECV_B", backward))
            yield f"{rank}B{backward}"
            more = self.before("RECV_F", forward + 1) if forward + 1 < m else ""
            yield call_text(self.before("SEND_B", backward), more)
        for backward in range(m - warmup, m):
            yield self.after("RECV_B", backward)
            yield f"{rank}B{backward}"
            yield self.before("SEND_B", backward)

    def before(self, what: str, microbatch: int) -> str:
        """A transfer with the rank before, if there is one."""
        return f"{self.rank}{what}{microbatch}" if self.rank > 0 else ""

    def after(self, what: str, microbatch: int) -> str:
        """A transfer with the rank after, if there is one."""
        return f"{self.rank}{what}{microbatch}" if self.rank < self.schedule.pp - 1 else ""


class _Chunks:
    """The interleaved loops; unit k is the k-th forward, or backward, of the rank."""

    def __init__(self, schedule: Schedule, rank: int, p2p: P2p) -> None:
        self.schedule, self.rank, self.p2p = schedule, rank, p2p
        microbatches, chunks = interleaved.units(
            vpp=schedule.vpp,
            num_microbatches=schedule.num_microbatches,
            microbatch_group_size=schedule.microbatch_group_size,
        )
        self.microbatches, self.chunks = microbatches.tolist(), chunks.tolist()
        self.num_units = len(self.chunks)
        wanted = 2 * (schedule.pp - rank - 1) + (schedule.vpp - 1) * schedule.microbatch_group_size
        if schedule.kind is ScheduleKind.COMBINED:
            wanted += 1
        self.warmup = min(wanted, self.num_units)
        self.is_first, self.is_last = rank == 0, rank == schedule.pp - 1

    def words(self) -> Iterator[str]:
        yield "" if self.is_first else self.word("RECV_F", 0)
        for unit in range(self.warmup):
            yield from self.warm_up(unit)
        for unit in range(self.num_units - self.warmup):
            yield from self.steady(unit)
        if self.warmup == self.num_units and not self.is_last:
            yield self.word("RECV_B", 0)
        for unit in range(self.num_units - self.warmup, self.num_units):
            yield from self.drain(unit)

    def warm_up(self, unit: int) -> Iterator[str]:
        received = self.received_forward(unit) if unit < self.num_units - 1 else ""
        first_gradient = ""
        if unit == self.warmup - 1 and self.warmup < self.num_units and not self.is_last:
            first_gradient = self.word("RECV_B", 0)
        if self.p2p is P2p.OVERLAPPED_TO_THE_ENDS and not self.is_first:
            yield received
            yield self.word("F", unit)
            yield self.sent_forward(unit)
        else:
            yield self.word("F", unit)
            together = first_gradient if self.p2p is P2p.BATCHED else ""
            yield call_text(self.sent_forward(unit), received, together)
        if self.p2p is not P2p.BATCHED:
            yield first_gradient

    def steady(self, unit: int) -> Iterator[str]:
        """One forward and one backward; unit counts the backwards."""
        forward = unit + self.warmup
        received = self.received_forward(forward) if forward < self.num_units - 1 else ""
        there = call_text(self.sent_forward(forward), received)
        back = call_text(self.sent_backward(unit), self.received_backward(unit))
        words = (self.word("F", forward), self.word("B", unit))
        if self.schedule.kind is ScheduleKind.COMBINED:
            yield f"({words[0]};{words[1]})OVERLAP_F_B"
            together = (call_text(*there.split("+"), *back.split("+")),)
            yield from together if self.p2p is P2p.BATCHED else (there, back)
        elif self.p2p is P2p.BATCHED:
            yield from words
            yield call_text(*there.split("+"), *back.split("+"))
        else:
            yield from (words[0], there, words[1], back)

    def drain(self, unit: int) -> Iterator[str]:
        received = self.received_backward(unit) if unit < self.num_units - 1 else ""
        if self.p2p is P2p.OVERLAPPED_TO_THE_ENDS and not self.is_last:
            yield received
            yield self.word("B", unit)
            yield self.sent_backward(unit)
        else:
            yield self.word("B", unit)
            yield call_text(self.sent_backward(unit), received)

    def word(self, what: str, unit: int) -> str:
        """The word for what a unit computes, sends or receives."""
        chunk = self.chunks[unit]
        if what.endswith(ActionKind.BACKWARD.value):
            chunk = self.schedule.vpp - 1 - chunk
        return self.named(what, chunk, self.microbatches[unit])

    def named(self, what: str, chunk: int, microbatch: int) -> str:
        return f"{chunk * self.schedule.pp + self.rank}{what}{microbatch}"

    def sent_forward(self, unit: int) -> str:
        ends_here = self.is_last and self.chunks[unit] == self.schedule.vpp - 1
        return "" if ends_here else self.word("SEND_F", unit)

    def sent_backward(self, unit: int) -> str:
        # Backwards begin with the last chunk, so the last one of a group is the first stage's.
        ends_here = self.is_first and self.chunks[unit] == self.schedule.vpp - 1
        return "" if ends_here else self.word("SEND_B", unit)

    def received_forward(self, unit: int) -> str:
        """What arrives during a unit: the next one's input, or on rank 0 the last rank's output."""
        if not self.is_first:
            return self.word("RECV_F", unit + 1)
        made = unit - (self.schedule.pp - 1)
        if made < 0 or self.chunks[made] == self.schedule.vpp - 1:
            return ""
        return self.named("RECV_F", self.chunks[made] + 1, self.microbatches[made])

    def received_backward(self, unit: int) -> str:
        """The same for gradients, where the last rank leads."""
        if not self.is_last:
            return self.word("RECV_B", unit + 1)
        made = unit - (self.schedule.pp - 1)
        if made < 0 or self.chunks[made] == self.schedule.vpp - 1:
            return ""
        chunk = self.schedule.vpp - 1 - self.chunks[made]
        return self.named("RECV_B", chunk - 1, self.microbatches[made])
