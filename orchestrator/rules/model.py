"""Rules on the model: what each axis cuts must divide."""

from collections.abc import Iterator

from orchestrator.errors import Problem
from orchestrator.rules.rule import Rule, Subject, divisors, possible


def _tp_heads(subject: Subject) -> Iterator[Problem]:
    tp, model = subject.layout.tp, subject.run.model
    if model.num_attention_heads % tp:
        yield Problem(
            key="layout.tp",
            message=f"{tp} does not divide {model.num_attention_heads} attention heads "
            f"({model.name})",
            possible=_tp_hint(subject, model.num_attention_heads),
            rule="tp-heads",
        )


def _tp_query_groups(subject: Subject) -> Iterator[Problem]:
    tp, model = subject.layout.tp, subject.run.model
    groups = model.num_query_groups
    if model.mla is None and groups % tp and tp % groups:
        yield Problem(
            key="layout.tp",
            message=f"{tp} neither divides nor is a multiple of {groups} query groups "
            f"({model.name})",
            possible=possible(divisors(groups), near=tp),
            rule="tp-query-groups",
        )


def _tp_ffn(subject: Subject) -> Iterator[Problem]:
    tp, model = subject.layout.tp, subject.run.model
    if model.ffn_hidden_size % tp:
        yield Problem(
            key="layout.tp",
            message=f"{tp} does not divide the FFN width {model.ffn_hidden_size} ({model.name})",
            possible=_tp_hint(subject, model.ffn_hidden_size),
            rule="tp-ffn",
        )
    moe, etp = model.moe, subject.layout.etp
    if moe and moe.moe_ffn_hidden_size % etp:
        yield Problem(
            key="layout.etp",
            message=f"{etp} does not divide the expert width {moe.moe_ffn_hidden_size}",
            possible=possible(divisors(moe.moe_ffn_hidden_size), near=etp),
            rule="tp-ffn",
        )


def _experts(subject: Subject) -> Iterator[Problem]:
    layout, moe = subject.layout, subject.run.model.moe
    if moe is None and (layout.ep > 1 or layout.etp > 1):
        yield Problem(
            key="layout.ep" if layout.ep > 1 else "layout.etp",
            message=f"{max(layout.ep, layout.etp)}, but {subject.run.model.name} has no experts",
            possible="use ep: 1 and leave etp out",
            rule="experts",
        )
    if moe and moe.num_experts % layout.ep:
        yield Problem(
            key="layout.ep",
            message=f"{layout.ep} does not divide {moe.num_experts} experts",
            possible=possible(divisors(moe.num_experts), near=layout.ep),
            rule="experts",
        )


def _moe_bias(subject: Subject) -> Iterator[Problem]:
    model, layout = subject.run.model, subject.layout
    if model.moe and model.linear_bias and layout.etp > 1:
        yield Problem(
            key="layout.etp",
            message=f"{layout.etp}, but experts with biases cannot be split",
            possible="use etp: 1",
            rule="moe-bias",
        )


def _moe_sequence_parallel(subject: Subject) -> Iterator[Problem]:
    layout = subject.layout
    if subject.run.model.moe and layout.tp > 1 and not layout.sequence_parallel:
        yield Problem(
            key="layout.sequence_parallel",
            message=f"false, but experts with tp {layout.tp} need it",
            possible="set sequence_parallel: true",
            rule="moe-sequence-parallel",
        )


def _sequence(subject: Subject) -> Iterator[Problem]:
    layout, length = subject.layout, subject.run.training.sequence_length
    if layout.cp > 1 and length % (2 * layout.cp):
        yield Problem(
            key="training.sequence_length",
            message=f"{length} is not a multiple of 2 x cp = {2 * layout.cp} "
            "(each rank takes two chunks to share the causal work)",
            possible=_multiples(length, 2 * layout.cp),
            rule="sequence-chunks",
        )
    if layout.sequence_parallel and (length // layout.cp) % layout.tp:
        yield Problem(
            key="training.sequence_length",
            message=f"{length} / cp {layout.cp} is not a multiple of tp {layout.tp} "
            "(sequence parallel cuts it)",
            possible=_multiples(length, layout.cp * layout.tp),
            rule="sequence-chunks",
        )
    longest = subject.run.model.max_sequence_length
    if length > longest:
        yield Problem(
            key="training.sequence_length",
            message=f"{length} is longer than the {longest} positions of {subject.run.model.name}",
            possible=f"use {longest} or less, or an inline card with a longer max_sequence_length",
            rule="sequence-positions",
        )


def _sequence_parallel_needs_tp(subject: Subject) -> Iterator[Problem]:
    if subject.layout.sequence_parallel and subject.layout.tp == 1:
        yield Problem(
            key="layout.sequence_parallel",
            message="true with tp 1: there is nothing to cut (Megatron turns it off silently)",
            possible="leave it out, or use tp 2 or more",
            rule="sequence-parallel-tp",
        )


def _tp_hint(subject: Subject, number: int) -> str:
    domain = subject.run.machine.cluster.scale_up_domain_gpus
    fits = ", ".join(str(value) for value in divisors(number) if value <= 4 * domain)
    return f"possible: {fits}; on {domain}-GPU hosts use {domain} or less"


def _multiples(number: int, step: int) -> str:
    low = number // step * step
    return f"possible: {', '.join(str(value) for value in (low, low + step) if value > 0)}"


_MEGATRON = "megatron-core@0.12"

RULES = (
    Rule(
        id="tp-heads",
        condition="tp divides the attention heads",
        source="Megatron TransformerConfig",
        since=_MEGATRON,
        check=_tp_heads,
    ),
    Rule(
        id="tp-query-groups",
        condition="tp divides the query groups, or is a multiple of them",
        source="Megatron TransformerConfig",
        since=_MEGATRON,
        check=_tp_query_groups,
    ),
    Rule(
        id="tp-ffn",
        condition="tp divides the FFN width, etp the expert width",
        source="Megatron ColumnParallelLinear",
        since=_MEGATRON,
        check=_tp_ffn,
    ),
    Rule(
        id="experts",
        condition="ep divides the experts; without experts ep and etp are 1",
        source="Megatron validate_args and TransformerConfig",
        since=_MEGATRON,
        check=_experts,
    ),
    Rule(
        id="moe-bias",
        condition="experts with biases are not split (etp 1)",
        source="Megatron TransformerConfig",
        since=_MEGATRON,
        check=_moe_bias,
    ),
    Rule(
        id="moe-sequence-parallel",
        condition="experts with tp above 1 use sequence parallelism",
        source="Megatron moe_layer, at the first step",
        since=_MEGATRON,
        check=_moe_sequence_parallel,
    ),
    Rule(
        id="sequence-chunks",
        condition="the sequence is a multiple of 2 x cp, and of cp x tp with sequence parallelism",
        source="Megatron validate_args; first step",
        since=_MEGATRON,
        check=_sequence,
    ),
    Rule(
        id="sequence-parallel-tp",
        condition="sequence parallelism needs tp above 1",
        source="Megatron ModelParallelConfig (validate_args turns it off silently)",
        since=_MEGATRON,
        check=_sequence_parallel_needs_tp,
    ),
)
