"""Which engines run a schedule with the very numbers asked, and why the others do not."""

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.schedules import legal, zero_bubble
from orchestrator.schedules.engines import SWITCHES, PipelineEngine
from orchestrator.schedules.refusal import Refusal
from orchestrator.specs.choices import ScheduleKind

GROUPED = (ScheduleKind.INTERLEAVED, ScheduleKind.COMBINED)
"""Schedules whose microbatch group size is free to choose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runners:
    """The words that switch a schedule on, by engine that runs it; the others' reasons."""

    switches: Mapping[PipelineEngine, str]
    refusals: Mapping[PipelineEngine, Refusal]


def runners_of(
    kind: ScheduleKind, *, pp: int, vpp: int, num_microbatches: int, microbatch_group_size: int
) -> Runners:
    """Return which of the engines that know a schedule run it with these numbers."""
    switches: dict[PipelineEngine, str] = {}
    refusals: dict[PipelineEngine, Refusal] = {}
    for engine, word in SWITCHES[kind].items():
        refused = legal.refusal_by(
            engine,
            kind,
            pp=pp,
            vpp=vpp,
            num_microbatches=num_microbatches,
            microbatch_group_size=microbatch_group_size,
        )
        if refused is None and engine is PipelineEngine.TORCH and kind in GROUPED:
            refused = _torch_group_refusal(
                kind, pp=pp, num_microbatches=num_microbatches, group_size=microbatch_group_size
            )
        if refused is not None:
            refusals[engine] = refused
        elif engine is PipelineEngine.MEGATRON:
            switches[engine] = _megatron_switch(kind, word, pp=pp)
        else:
            switches[engine] = word
    return Runners(switches=switches, refusals=refusals)


def usual_group_size(kind: ScheduleKind, *, pp: int, vpp: int, num_microbatches: int) -> int:
    """Return the group size where none is said: pp, or torch's where torch alone runs it."""
    if kind not in {ScheduleKind.INTERLEAVED, ScheduleKind.ZERO_BUBBLE}:
        return pp
    own = zero_bubble.group_size(pp=max(1, pp), num_microbatches=num_microbatches)
    if kind is ScheduleKind.ZERO_BUBBLE:
        return own
    by_rank, by_round = (
        runners_of(
            kind,
            pp=pp,
            vpp=vpp,
            num_microbatches=num_microbatches,
            microbatch_group_size=group_size,
        )
        for group_size in (pp, own)
    )
    return own if by_round.switches and not by_rank.switches else pp


def _torch_group_refusal(
    kind: ScheduleKind, *, pp: int, num_microbatches: int, group_size: int
) -> Refusal | None:
    own = zero_bubble.group_size(pp=pp, num_microbatches=num_microbatches)
    if group_size == own:
        return None
    return Refusal(
        reason=f"{kind} takes {num_microbatches} microbatches in groups of {own} alone "
        f"(m // max(1, m // pp)), not of {group_size}",
        possible=f"groups of {own}",
        nearest_group_size=own,
    )


def _megatron_switch(kind: ScheduleKind, word: str, *, pp: int) -> str:
    if pp == 1:
        # Megatron has no 1F1B of one rank: its loop without a pipeline has the same order.
        return SWITCHES[ScheduleKind.NO_PIPELINE][PipelineEngine.MEGATRON]
    refused = legal.p2p_refusal(kind, pp=pp, overlap=())
    return word if refused is None else f"{word}, overlap_p2p_comm: {refused.reason}"
