"""Every collective of one optimizer step as one rank makes it: how often, over whom, how much.

Bytes are exact and are the payload that this rank hands in to one call: the whole tensor of an
all-reduce, the own shard of an all-gather, the whole input of a reduce-scatter, all rows of an
all-to-all (those that stay here too), the message of a send. A receive counts what arrives.
`sent_bytes` is what then leaves the rank.

Source: megatron-core 0.16.1 with its own layers ("local"), where `llmorch validate
--engine-check` records the same calls; experts are held against four real ranks. Context
parallelism follows Transformer Engine's `context_parallel.py`, read and not run. Left out: what a
training script adds around the engine (data, logging, timers).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.cost import traffic_finish, traffic_layers, traffic_replicas
from orchestrator.cost.collective import Axis, Collective, Kind, merged
from orchestrator.cost.shape import LayerKind, Shape, shape_of
from orchestrator.cost.tensors import stage_tensors
from orchestrator.errors import UsageError
from orchestrator.records.layout import Layout
from orchestrator.records.run import ResolvedRun, padded_vocab_size
from orchestrator.schedules import stages
from orchestrator.specs.choices import OverlapAxis, Precision, RecomputeGranularity, ScheduleKind
from orchestrator.specs.layers import MoeSpec

_RANKED = (ScheduleKind.NO_PIPELINE, ScheduleKind.ONE_F_ONE_B, ScheduleKind.INTERLEAVED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """The collectives of one step on one rank of a pipeline rank; equal for its tp, cp, dp ranks.

    Groups of one rank are left out: nothing moves.
    """

    pp_rank: int
    collectives: tuple[Collective, ...]

    def of(self, axis: Axis) -> tuple[Collective, ...]:
        """Return those over one axis."""
        return tuple(one for one in self.collectives if one.axis is axis)

    def sent_bytes(self, axis: Axis) -> float:
        """Return the bytes that leave the rank over one axis."""
        return float(sum(one.sent_bytes for one in self.of(axis)))


def traffic_of(run: ResolvedRun, layout: Layout, *, pp_rank: int) -> Traffic:
    """Return every collective of one step on a rank of pipeline rank `pp_rank`.

    Raises:
        UsageError: something of the run is not counted by call yet; it is named.
    """
    _expect_counted(run, layout)
    shape = shape_of(run.model)
    return Traffic(pp_rank=pp_rank, collectives=merged(_all(run, layout, shape, pp_rank)))


def uncounted(run: ResolvedRun, layout: Layout) -> tuple[str, ...]:
    """Return what of a run is not counted by call yet; empty where `traffic_of` answers."""
    checks = (
        ("multi-latent attention", run.model.mla is not None),
        ("multi-token prediction", run.model.mtp_num_layers > 0),
        ("normalisations after attention and MLP", run.model.post_norms),
        (f"ZeRO stage {layout.zero_stage}", layout.zero_stage > 1),
        ("replicated shards (zero_replicas)", layout.zero_replicas > 1),
        (f"the schedule {layout.schedule}", layout.schedule not in _RANKED),
        ("experts over tp without sequence parallelism", _is_repeated_routing(run, layout)),
    )
    return tuple(name for name, is_there in checks if is_there)


def _all(run: ResolvedRun, layout: Layout, shape: Shape, pp_rank: int) -> Iterator[Collective]:
    microbatches = layout.num_microbatches(run.training.global_batch_size)
    placed = _placed(shape, layout, pp_rank)
    part = _microbatch(run, layout, shape)
    for first_layer, stage in placed:
        for one in _stage(part, stage, first_layer=first_layer):
            yield one.times(microbatches)
    yield from _pipeline(part, pp_rank=pp_rank, microbatches=microbatches)
    vocab = padded_vocab_size(run.model, run.training, tp=layout.tp)
    chunks = [
        stage_tensors(shape, layout, stage, first_layer=first_layer, vocab=vocab)
        for first_layer, stage in placed
    ]
    yield from traffic_replicas.replicas(
        layout,
        chunks,
        pp_rank=pp_rank,
        parameter_bytes=part.element_bytes,
        gathers=_gathers(layout, shape),
    )
    yield from traffic_finish.partial_gradients(layout, chunks)
    yield from traffic_finish.gradient_norm(layout, has_experts=_are_experts_apart(layout, shape))
    kinds = [
        kind
        for first, stage in placed
        for kind in shape.kinds[first : first + stage.decoder_layers]
    ]
    yield from traffic_finish.routing_bias(
        layout,
        run.model.moe,
        moe_layers=kinds.count(LayerKind.MOE),
        element_bytes=part.element_bytes,
    )


def _placed(shape: Shape, layout: Layout, pp_rank: int) -> list[tuple[int, stages.Stage]]:
    """Return the stages of a pipeline rank with the first decoder layer of each."""
    all_stages = stages.layout_of(
        layout.stage_layout, num_layers=shape.num_layers, num_stages=layout.num_stages
    ).stages
    counts = [stage.decoder_layers for stage in all_stages]
    return [
        (sum(counts[:number]), all_stages[number])
        for number in range(pp_rank, layout.num_stages, layout.pp)
    ]


def _microbatch(run: ResolvedRun, layout: Layout, shape: Shape) -> traffic_layers.Microbatch:
    moe = run.model.moe
    element_bytes = 4 if run.training.precision is Precision.FP32 else 2
    in_fp32 = moe is not None and moe.router_dtype == "fp32"
    return traffic_layers.Microbatch(
        shape=shape,
        layout=layout,
        tokens=layout.micro_batch_size * run.training.sequence_length // layout.cp,
        element_bytes=element_bytes,
        router_bytes=4 if in_fp32 else element_bytes,
        balance_counts=_balance_counts(moe, layout),
    )


def _balance_counts(moe: MoeSpec | None, layout: Layout) -> int:
    if moe is None or moe.load_balancing == "none" or moe.aux_loss_coeff == 0:
        return 0
    each_sequence = moe.load_balancing == "seq_aux_loss"
    return moe.num_experts * (layout.micro_batch_size if each_sequence else 1)


def _stage(
    part: traffic_layers.Microbatch, stage: stages.Stage, *, first_layer: int
) -> Iterator[Collective]:
    recompute = part.layout.recompute
    most = 0 if recompute.granularity is not RecomputeGranularity.FULL else recompute.layers
    if stage.has_embedding:
        yield from traffic_layers.embedding(part)
    for place in range(stage.decoder_layers):
        is_recomputed = most is None or place < most
        kind = part.shape.kinds[first_layer + place]
        yield from traffic_layers.layer(part, kind, is_recomputed=is_recomputed)
    if stage.has_loss:
        yield from traffic_layers.head(part)


def _pipeline(
    part: traffic_layers.Microbatch, *, pp_rank: int, microbatches: int
) -> Iterator[Collective]:
    """Yield what a rank passes on: each microbatch once for each stage that is not an end."""
    layout = part.layout
    first = (layout.vpp - (pp_rank == 0)) * microbatches  # stages with one before them
    last = (layout.vpp - (pp_rank == layout.pp - 1)) * microbatches  # with one after them
    for kind, purpose, calls, offset in (
        (Kind.SEND, "activations", last, 1),
        (Kind.RECEIVE, "activations", first, -1),
        (Kind.SEND, "gradients", first, -1),
        (Kind.RECEIVE, "gradients", last, 1),
    ):
        yield Collective(
            axis=Axis.PP,
            kind=kind,
            purpose=purpose,
            group_size=layout.pp,
            calls=calls,
            payload_bytes=part.held_bytes,
            offset=offset,
        )


def _are_experts_apart(layout: Layout, shape: Shape) -> bool:
    """Return whether experts have an optimizer of their own, on every rank: where ep is above 1."""
    return layout.ep > 1 and LayerKind.MOE in shape.kinds


def _gathers(layout: Layout, shape: Shape) -> int:
    """Return how often a step gathers parameters.

    Megatron's two optimizers each gather all of them, unless the next forward pass does it.
    """
    overlapped = OverlapAxis.DP in layout.overlap
    return 2 if _are_experts_apart(layout, shape) and not overlapped else 1


def _is_repeated_routing(run: ResolvedRun, layout: Layout) -> bool:
    return run.model.moe is not None and layout.tp > 1 and not layout.sequence_parallel


def _expect_counted(run: ResolvedRun, layout: Layout) -> None:
    missing = uncounted(run, layout)
    if missing:
        raise UsageError(
            problem=f"the collectives of {run.name} are not counted one by one: it has "
            + ", ".join(missing),
            instead="`llmorch plan` models their seconds",
        )
