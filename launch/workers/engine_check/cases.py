"""What to ask an engine about a schedule, and what it did."""

from dataclasses import dataclass
from enum import StrEnum


class P2p(StrEnum):
    """How Megatron-Core's interleaved loop communicates."""

    BATCHED = "batched"
    OVERLAPPED = "overlapped"
    OVERLAPPED_TO_THE_ENDS = "overlapped-to-the-ends"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One rank of one schedule, in the run file's words; `engine` is the one asked."""

    engine: str
    schedule: str
    pp: int
    vpp: int
    num_microbatches: int
    microbatch_group_size: int
    rank: int
    p2p: P2p = P2p.BATCHED


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """What an engine did, in its order, or why it refused.

    `order`: the computations alone, in torch's words (`4F0`). `stream`: those and everything
    else: transfers `4SEND_F0`, those of one call joined by `+` and sorted; of DeepSpeed the
    instructions of a step joined by `; `.
    """

    order: tuple[str, ...] = ()
    stream: tuple[str, ...] = ()
    refused: str | None = None


def recorded(stream: list[str]) -> Recording:
    """Return the recording of a stream whose computations are words of their own."""
    order = tuple(word for word in stream if "SEND" not in word and "RECV" not in word)
    return Recording(order=order, stream=tuple(stream))


def call_text(transfers: list[str]) -> str:
    """Return the text of transfers that one call makes."""
    return "+".join(sorted(transfers))
