"""Whether what an installed engine answered is what llmorch computes; differences in words."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from launch.workers.engine_check.questions import Held, Question, Recorded
from orchestrator.cli.engine_check_questions import Asked, Job
from orchestrator.cost.collective import GROUPS, Collective, Kind
from orchestrator.cost.parameters import mtp_parameters, total_parameters
from orchestrator.cost.shape import shape_of
from orchestrator.cost.share import held_parameters, shares_of
from orchestrator.cost.traffic import traffic_of
from orchestrator.cost.workload import workload_of
from orchestrator.records.layout import Layout
from orchestrator.records.run import ResolvedRun
from orchestrator.topology.groups import GroupKind, group_table
from orchestrator.topology.ranks import coordinate_of

Group = tuple[int, ...]
Call = tuple[str, Group | None, int, int | None]
"""A kind, the ranks of the group (None of messages), payload bytes, the other rank of messages."""

_MESSAGES = (Kind.SEND, Kind.RECEIVE)


def group_differences(asked: Asked, theirs: Mapping[str, Sequence[int]]) -> Iterator[str]:
    """Yield each process group of the rank that is not ours, by the names of `GroupKind`."""
    for kind in GroupKind:
        ours = group_of(asked.layout, kind, asked.question.rank)
        found = tuple(theirs[kind.value]) if kind.value in theirs else None
        if kind is GroupKind.REPLICA and asked.layout.zero_replicas == 1:
            continue  # Megatron makes none
        if found != ours:
            yield f"{kind} is {_ranks_text(found)}, not {_ranks_text(ours)}"


@lru_cache(maxsize=64)
def _members(layout: Layout, kind: GroupKind) -> Mapping[int, Group]:
    table = group_table(layout, kind).tolist()
    return {rank: tuple(group) for group in table for rank in group}


def group_of(layout: Layout, kind: GroupKind, rank: int) -> Group | None:
    """Return the ranks of a rank's group of a kind, None where it is in none."""
    return _members(layout, kind).get(rank)


def held_differences(run: ResolvedRun, asked: Asked, held: Held) -> Iterator[str]:
    """Yield how many parameters a pipeline rank holds, where it is not what we count."""
    workload = workload_of(run)
    pp_rank = coordinate_of(asked.question.rank, asked.layout).pp
    share = shares_of(workload.shape, asked.layout)[pp_rank]
    ours = held_parameters(workload, asked.layout, share)
    pairs = (
        ("dense", held.sharded + held.whole, ours.dense),
        ("expert", held.expert_sharded + held.expert_whole, ours.expert),
    )
    for name, theirs, mine in pairs:
        if theirs != mine:
            yield f"pipeline rank {pp_rank} holds {theirs:,} {name} parameters, not {mine:,}"


def whole_model(run: ResolvedRun, layout: Layout, held: Sequence[Held]) -> int:
    """Return the parameters of the model that the engine built, one `Held` a pipeline rank.

    Shards are put together, copies counted once, rows that pad the vocabulary taken off.
    """
    shape = shape_of(run.model)
    padding = workload_of(run).padded_vocab(layout.tp) - shape.vocab
    matrices = 1 if shape.tied else 2
    dense = sum(layout.tp * (one.sharded - one.tied) + one.whole for one in held)
    experts = sum(layout.etp * one.expert_sharded + one.expert_whole for one in held)
    return dense + layout.ep * experts - matrices * padding * shape.hidden


def our_count(run: ResolvedRun) -> int:
    """Return the parameters of a model, vocabulary not padded."""
    shape = shape_of(run.model)
    return total_parameters(shape) + mtp_parameters(shape)


def call_differences(run: ResolvedRun, asked: Asked, recorded: Sequence[Recorded]) -> Iterator[str]:
    """Yield each kind of call that the recorded step made more or less often than we count."""
    question, layout = asked.question, asked.layout
    theirs = called(recorded)
    ours = counted(run, layout, question)
    for call in sorted(theirs.keys() | ours.keys(), key=str):
        if theirs[call] != ours[call]:
            yield f"{_call_text(call)}: {theirs[call]:,} calls, not {ours[call]:,}"


def called(recorded: Sequence[Recorded]) -> Counter[Call]:
    """Return the calls of a recorded step by what they are."""
    calls: Counter[Call] = Counter()
    for one in recorded:
        # Between two ranks Megatron sends over the world's group too: the peer says it all.
        group = None if one.peer is not None else one.group
        calls[(one.kind, group, one.payload_bytes, one.peer)] += one.calls
    return calls


def counted(run: ResolvedRun, layout: Layout, question: Question) -> Counter[Call]:
    """Return the calls that we count for the rank of a question, in as many microbatches."""
    batch = question.num_microbatches * layout.micro_batch_size * layout.dp
    training = run.training.model_copy(update={"global_batch_size": batch})
    pp_rank = coordinate_of(question.rank, layout).pp
    traffic = traffic_of(replace(run, training=training), layout, pp_rank=pp_rank)
    calls: Counter[Call] = Counter()
    for one in traffic.collectives:
        calls[_call(one, layout, question.rank)] += one.calls
    return calls


def _call(one: Collective, layout: Layout, rank: int) -> Call:
    group = group_of(layout, GROUPS[one.axis], rank)
    assert group is not None  # noqa: S101  a rank is in the groups that its traffic names
    if one.kind not in _MESSAGES or one.offset is None:
        return (one.kind.value, group, one.payload_bytes, None)
    peer = group[(group.index(rank) + one.offset) % len(group)]
    return (one.kind.value, None, one.payload_bytes, peer)


def config_differences(job: Job, understood: Mapping[str, int]) -> Iterator[str]:
    """Yield what DeepSpeed makes of its batch and ZeRO blocks, where we mean something else."""
    ours = {
        "world": job.layout.dp,
        "microbatches": job.num_microbatches,
        "batch": job.run.training.global_batch_size,
        "stage": job.layout.zero_stage,
    }
    for name, mine in ours.items():
        if understood.get(name) != mine:
            yield f"{name} is {understood.get(name)}, not {mine:,}"


def partition_differences(asked: Asked, partition: Mapping[str, int]) -> Iterator[str]:
    """Yield how many elements of a state a rank keeps, where it is not what we divide.

    Our memory model divides the parameters by the sharding domain. What DeepSpeed adds is padding:
    to equal parts of two elements (stages 1 and 2), or to equal parts of each tensor (3).
    """
    domain, stage = asked.layout.zero_domain, asked.layout.zero_stage
    tensors = asked.question.tensors
    padded = 2 * _parts(sum(tensors), 2 * domain)
    if stage == 3:  # noqa: PLR2004
        padded = sum(_parts(elements, domain) for elements in tensors)
    names = ("optimizer", "gradients", "weights")[:stage]
    for name in names:
        if partition.get(name) != padded:
            found = partition.get(name)
            kept = "all" if found is None else f"{found:,}"
            yield f"a rank keeps {kept} elements of {name}, not {padded:,}"


def _parts(elements: int, parts: int) -> int:
    return -(-elements // parts)


def _call_text(call: Call) -> str:
    kind, group, size, peer = call
    place = f"rank {peer}" if group is None else _ranks_text(group)
    word = {"send": "to", "receive": "from"}.get(kind, "over")
    return f"{kind} {word} {place} of {size:,} bytes"


def _ranks_text(group: Group | None) -> str:
    if group is None:
        return "absent"
    shown = " ".join(map(str, group[:4]))
    return f"[{shown}]" if len(group) <= 4 else f"[{shown} ... {group[-1]}] ({len(group):,} ranks)"  # noqa: PLR2004
