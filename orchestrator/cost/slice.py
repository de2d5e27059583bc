"""The part of a microbatch that one rank works on."""

from dataclasses import dataclass

from orchestrator.cost.shape import Shape
from orchestrator.cost.workload import Workload
from orchestrator.records.layout import Layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Degrees that cut a layer, and the tokens of a microbatch that reach a rank.

    `tokens` [b s / c] pass through its matrices; `held_tokens` are those whose hidden state it
    keeps between them: tokens / t with sequence parallelism, all of them without.
    """

    tp: int
    cp: int
    ep: int
    etp: int
    tokens: int
    held_tokens: int


def slice_of(workload: Workload, layout: Layout) -> Slice:
    """Return the slice of a layout; lengths that do not divide are rounded down."""
    tokens = max(1, layout.micro_batch_size * workload.sequence // layout.cp)
    shared = layout.sequence_parallel and layout.tp > 1
    return Slice(
        tp=layout.tp,
        cp=layout.cp,
        ep=layout.ep,
        etp=layout.etp,
        tokens=tokens,
        held_tokens=max(1, tokens // layout.tp) if shared else tokens,
    )


def expert_tokens(shape: Shape, part: Slice) -> float:
    """Return the (token, expert) pairs that a rank computes, experts being balanced.

    k for each held token; with etp the tokens of that group are gathered first.
    """
    return float(part.held_tokens * shape.topk * part.etp)
