"""Rules on the sequence: every rank's piece of it is whole."""

from orchestrator.rules.change import change, changes, divisors, multiples, nearby
from orchestrator.rules.rule import (
    DEEPSPEED,
    MEGATRON,
    PASS,
    Breach,
    Breaches,
    Rule,
    Severity,
    Source,
    Subject,
    megatron_arguments,
    megatron_core,
    ours,
)
from orchestrator.specs.choices import CpCommType

_LENGTH = "training.sequence_length"


def _context_chunks(subject: Subject) -> Breaches:
    cp, length = subject.layout.cp, subject.run.training.sequence_length
    if cp == 1 or length % (2 * cp) == 0:
        return PASS
    cps = nearby(divisors(length), near=cp, fits=lambda d: length % (2 * d) == 0, most=2)
    passing = (*changes(_LENGTH, multiples(length, 2 * cp)), *changes("layout.cp", cps))
    said = {"length": length, "chunks": 2 * cp}
    return (Breach(key=_LENGTH, said=said, passing=passing),)


def _sequence_parallel_pieces(subject: Subject) -> Breaches:
    layout, length = subject.layout, subject.run.training.sequence_length
    if not layout.sequence_parallel or (length // layout.cp) % layout.tp == 0:
        return PASS
    said = {"length": length, "cp": layout.cp, "tp": layout.tp}
    lengths = multiples(length, 2 * layout.cp * layout.tp)
    return (Breach(key=_LENGTH, said=said, passing=changes(_LENGTH, lengths)),)


def _positions(subject: Subject) -> Breaches:
    length, longest = subject.run.training.sequence_length, subject.run.model.max_sequence_length
    if length <= longest:
        return PASS
    said = {"length": length, "longest": longest, "model": subject.run.model.name}
    advice = "or an inline card with a longer max_sequence_length"
    return (Breach(key=_LENGTH, said=said, passing=changes(_LENGTH, (longest,)), advice=advice),)


def _sequence_parallel_tp(subject: Subject) -> Breaches:
    if not subject.layout.sequence_parallel or subject.layout.tp > 1:
        return PASS
    key = "layout.sequence_parallel"
    passing = (change(key, value=False), change("layout.tp", 2))
    return (Breach(key=key, passing=passing),)


def _all_to_all_heads(subject: Subject) -> Breaches:
    layout, model = subject.layout, subject.run.model
    if layout.cp == 1 or layout.cp_comm_type is not CpCommType.ALL_TO_ALL:
        return PASS
    if model.num_attention_heads % layout.tp:
        return PASS  # tp-heads says so
    heads = model.num_attention_heads // layout.tp
    # A rank has one group at least: with more ranks than groups they are copied.
    groups = heads if model.mla else max(1, model.num_query_groups // layout.tp)
    if heads % layout.cp == 0 and groups % layout.cp == 0:
        return PASS
    fits = nearby(divisors(groups), near=layout.cp, fits=lambda d: heads % d == 0)
    passing = (
        change("layout.cp_comm_type", CpCommType.P2P.value),
        *changes("layout.cp", fits),
    )
    said = {"cp": layout.cp, "heads": heads, "groups": groups, "tp": layout.tp}
    return (Breach(key="layout.cp_comm_type", said=said, passing=passing),)


def _unused_cp_comm_type(subject: Subject) -> Breaches:
    layout = subject.layout
    if layout.cp > 1 or layout.cp_comm_type is None:
        return PASS
    passing = (change("layout.cp_comm_type", None), change("layout.cp", 2))
    said = {"kind": layout.cp_comm_type}
    return (Breach(key="layout.cp_comm_type", said=said, passing=passing),)


def _ulysses_heads(subject: Subject) -> Breaches:
    cp, model = subject.layout.cp, subject.run.model
    heads, groups = model.num_attention_heads, model.num_query_groups
    if heads % cp == 0 and groups % cp == 0:
        return PASS
    fits = nearby(divisors(heads), near=cp, fits=lambda d: groups % d == 0)
    said = {"cp": cp, "heads": heads, "groups": groups}
    return (Breach(key="layout.cp", said=said, passing=changes("layout.cp", fits)),)


def _ulysses_sequence(subject: Subject) -> Breaches:
    cp, length = subject.layout.cp, subject.run.training.sequence_length
    if length % cp == 0:
        return PASS
    passing = changes(_LENGTH, multiples(length, cp))
    said = {"length": length, "cp": cp}
    return (Breach(key=_LENGTH, said=said, passing=passing),)


RULES = (
    Rule(
        id="context-chunks",
        condition="with cp, the sequence is a multiple of 2 x cp",
        message="{length} is not a multiple of 2 x cp = {chunks} (each rank takes two chunks to "
        "share the causal work)",
        source=megatron_arguments(818, "args.seq_length % (args.context_parallel_size * 2) == 0"),
        since="0.9",
        families=MEGATRON,
        check=_context_chunks,
    ),
    Rule(
        id="sequence-parallel-pieces",
        condition="with sequence parallelism, the sequence / cp is a multiple of tp",
        message="{length} / cp {cp} is not a multiple of tp {tp} (sequence parallel cuts it; "
        "refused at the first step)",
        source=megatron_core("tensor_parallel/mappings.py", 70, "First dimension of the tensor"),
        since="0.9",
        families=MEGATRON,
        check=_sequence_parallel_pieces,
    ),
    Rule(
        id="positions",
        condition="the sequence is not longer than the model's positions",
        message="{length} is longer than the {longest} positions of {model}",
        source=megatron_arguments(830, "args.max_position_embeddings >= args.seq_length"),
        since="0.9",
        check=_positions,
    ),
    Rule(
        id="sequence-parallel-tp",
        condition="sequence parallelism needs tp above 1",
        message="true with tp 1: there is nothing to cut (validate_args turns it off silently)",
        source=megatron_core("model_parallel_config.py", 411, "Cannot use sequence parallelism"),
        since="0.9",
        check=_sequence_parallel_tp,
    ),
    Rule(
        id="all-to-all-heads",
        condition="with cp_comm_type a2a, cp divides a rank's heads and query groups",
        message="a2a gives each of cp {cp} ranks a share of the {heads} heads and {groups} query "
        "groups that tp {tp} leaves: they do not divide",
        source=Source(
            document="transformer-engine 2.9 transformer_engine/pytorch/attention/"
            "dot_product_attention/context_parallel.py",
            line=3191,
            words="The number of attention heads needs to be divisible by CP size!",
        ),
        families=MEGATRON,
        check=_all_to_all_heads,
    ),
    Rule(
        id="unused-cp-comm-type",
        condition="cp_comm_type is given where cp is above 1",
        message="{kind}, but with cp 1 nothing is exchanged",
        source=ours("a setting without effect is told"),
        severity=Severity.WARNING,
        check=_unused_cp_comm_type,
    ),
    Rule(
        id="ulysses-heads",
        condition="DeepSpeed's cp (Ulysses) divides the heads and the query groups",
        message="{cp} ranks cannot share {heads} heads and {groups} query groups equally",
        source=Source(
            document="deepspeed 0.19.8 deepspeed/sequence/layer.py",
            line=64,
            words="must be divisible by the sequence parallel size",
        ),
        since="0.19.8",
        families=DEEPSPEED,
        check=_ulysses_heads,
    ),
    Rule(
        id="ulysses-sequence",
        condition="DeepSpeed's cp (Ulysses) divides the sequence",
        message="{length} is not a multiple of cp {cp}",
        source=ours("each rank of DistributedAttention holds an equal piece"),
        families=DEEPSPEED,
        check=_ulysses_sequence,
    ),
)
