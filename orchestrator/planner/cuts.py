"""How the layers of a model can be cut into pipeline stages."""

from dataclasses import dataclass
from functools import lru_cache

from orchestrator.records.engine import EngineCapabilities
from orchestrator.records.run import ResolvedRun
from orchestrator.schedules import stages
from orchestrator.specs.choices import ScheduleKind

ENDS = 2
"""Embedding and loss: each may take the place of a layer."""

FEW_CHUNKS = (1, 2, 4)
"""Chunks of a rank that are tried where layers do not divide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunks:
    """How layers are cut into stages; `stage_layout` None is even."""

    vpp: int
    stage_layout: str | None


def chunks_of(run: ResolvedRun, capabilities: EngineCapabilities, *, pp: int) -> tuple[Chunks, ...]:
    """Return how to cut the layers: even, or with embedding and loss counted as layers.

    Where neither works for any number of chunks (61 layers on 8 ranks), as evenly as it goes,
    for a few numbers of chunks.
    """
    layers, mtp = run.model.num_layers, run.model.mtp_num_layers
    # Embedding and loss may stand alone: 126 layers have 128 places.
    most = (layers + ENDS) // pp
    vpps = [vpp for vpp in range(1, most + 1) if _runs(capabilities, pp=pp, vpp=vpp)]
    equal = [
        Chunks(vpp=vpp, stage_layout=None)
        if layers % (pp * vpp) == 0
        else Chunks(vpp=vpp, stage_layout=_accounted_text(layers, pp * vpp, mtp))
        for vpp in vpps
        if layers % (pp * vpp) == 0 or _accounted_text(layers, pp * vpp, mtp)
    ]
    if equal:
        return tuple(equal)
    few = [vpp for vpp in vpps if vpp in FEW_CHUNKS]
    texts = [(vpp, _nearly_even_text(layers, pp * vpp, mtp)) for vpp in few]
    return tuple(Chunks(vpp=vpp, stage_layout=text) for vpp, text in texts if text)


def schedule_kind(*, pp: int, vpp: int) -> ScheduleKind:
    """Return the schedule that goes with so many ranks and chunks."""
    if pp == 1:
        return ScheduleKind.NO_PIPELINE
    return ScheduleKind.INTERLEAVED if vpp > 1 else ScheduleKind.ONE_F_ONE_B


def _runs(capabilities: EngineCapabilities, *, pp: int, vpp: int) -> bool:
    schedule = schedule_kind(pp=pp, vpp=vpp)
    if vpp > 1 and (pp == 1 or "vpp" not in capabilities.axes):
        return False
    return schedule in capabilities.schedules


@lru_cache(maxsize=4096)
def _accounted_text(layers: int, num_stages: int, mtp: int) -> str | None:
    """Return the layout that counts embedding and loss as layers, None where that is not even."""
    layout = stages.accounted(layers, num_stages=num_stages, mtp_num_layers=mtp)
    return None if layout is None else stages.text_of(layout)


@lru_cache(maxsize=4096)
def _nearly_even_text(layers: int, num_stages: int, mtp: int) -> str | None:
    """Return the layout whose stages differ by one at most, the ends counted as layers."""
    each, more = divmod(layers + mtp + ENDS, num_stages)
    sizes = [each + (0 < stage <= more) for stage in range(num_stages)]
    sizes[0] -= 1
    sizes[-1] -= 1 + mtp
    if min(sizes) < 0:
        return None
    last = num_stages - 1
    return stages.text_of(
        stages.StageLayout(
            stages=tuple(
                stages.Stage(
                    has_embedding=stage == 0,
                    decoder_layers=size,
                    mtp_layers=mtp if stage == last else 0,
                    has_loss=stage == last,
                )
                for stage, size in enumerate(sizes)
            )
        )
    )
