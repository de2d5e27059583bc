"""What each pipeline rank holds of a model."""

from dataclasses import dataclass
from functools import lru_cache

from orchestrator.cost.parameters import (
    Held,
    embedding_parameters,
    final_norm_parameters,
    head_parameters,
    layer_parameters,
    mtp_projection_parameters,
)
from orchestrator.cost.shape import LayerKind, Shape
from orchestrator.cost.workload import Workload
from orchestrator.records.layout import Layout, Recompute
from orchestrator.schedules import stages
from orchestrator.schedules.placement import Placement, placement_of, stages_of
from orchestrator.specs.choices import RecomputeGranularity


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Layers of a pipeline rank by kind, over all its chunks, and the ends it holds.

    `kinds` counts the layers of each kind there is; multi-token prediction's are among them.
    `chunk_layers` are the layers of each chunk, as partial recomputation counts by chunk.
    """

    kinds: tuple[tuple[LayerKind, int], ...]
    mtp_layers: int
    embedding: bool
    head: bool
    chunk_layers: tuple[int, ...]

    @property
    def layers(self) -> int:
        """Layers of all kinds."""
        return sum(count for _, count in self.kinds)

    def recomputed_layers(self, recompute: Recompute) -> int:
        """Return how many of the layers are recomputed (`layers` counts by chunk; None is all)."""
        if recompute.granularity is RecomputeGranularity.NONE:
            return 0
        if recompute.layers is None:
            return self.layers
        return sum(min(recompute.layers, layers) for layers in self.chunk_layers)


def shares_of(shape: Shape, layout: Layout) -> tuple[Share, ...]:
    """Return the share of each pipeline rank, in order.

    Raises:
        UsageError: the layers do not divide into the stages (the rules say so first).
    """
    placement = placement_of(layout.schedule)
    return _shares(shape, layout.pp, layout.vpp, layout.stage_layout, placement)


@lru_cache(maxsize=8192)
def _shares(
    shape: Shape, pp: int, vpp: int, text: str | None, placement: Placement
) -> tuple[Share, ...]:
    layout = stages.layout_of(
        text,
        num_layers=shape.num_layers,
        num_stages=pp * vpp,
        mtp_num_layers=shape.mtp_layers,
    )
    starts = _starts([stage.decoder_layers for stage in layout.stages])
    placed = list(zip(starts, layout.stages, strict=True))
    return tuple(
        _share(shape, [placed[one] for one in stages_of(rank, pp=pp, vpp=vpp, placement=placement)])
        for rank in range(pp)
    )


def _share(shape: Shape, chunks: list[tuple[int, stages.Stage]]) -> Share:
    kinds = [
        kind
        for start, stage in chunks
        for kind in shape.kinds[start : start + stage.decoder_layers]
    ]
    mtp = sum(stage.mtp_layers for _, stage in chunks)
    kinds += [shape.mtp_kind] * mtp
    return Share(
        kinds=tuple((kind, kinds.count(kind)) for kind in LayerKind if kind in kinds),
        mtp_layers=mtp,
        embedding=any(stage.has_embedding for _, stage in chunks),
        head=any(stage.has_loss for _, stage in chunks),
        chunk_layers=tuple(stage.decoder_layers + stage.mtp_layers for _, stage in chunks),
    )


def held_parameters(workload: Workload, layout: Layout, share: Share) -> Held:
    """Return the parameters that a rank with this share holds, vocabulary padded."""
    return _held(workload, share, layout.tp, layout.etp, layout.ep)


@lru_cache(maxsize=65536)
def _held(workload: Workload, share: Share, tp: int, etp: int, ep: int) -> Held:
    shape, vocab = workload.shape, workload.padded_vocab(tp)
    layers = [
        (layer_parameters(shape, kind=kind, tp=tp, etp=etp, ep=ep), count)
        for kind, count in share.kinds
    ]
    dense = sum(count * layer.dense for layer, count in layers)
    if share.embedding:
        dense += embedding_parameters(shape, vocab=vocab, tp=tp)
    if share.head and share.embedding and shape.tied:
        dense += final_norm_parameters(shape)
    elif share.head:
        dense += head_parameters(shape, vocab=vocab, tp=tp)
    if share.mtp_layers:
        dense += share.mtp_layers * mtp_projection_parameters(shape, tp=tp)
    return Held(dense=dense, expert=sum(count * layer.expert for layer, count in layers))


def _starts(counts: list[int]) -> list[int]:
    """Return where each part starts: the sum of those before it."""
    return [sum(counts[:index]) for index in range(len(counts))]
