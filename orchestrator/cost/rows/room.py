"""What a row leaves unsaid about memory: it ran, so it fitted.

The unsaid things are tried in order until the row fits, and `assumed` tells which one it took.
A row that says everything is taken as it is, whether it fits or not.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from orchestrator.cost.memory import memory_of, states_floor_bytes
from orchestrator.cost.rows.row import Row
from orchestrator.cost.software import MEGATRON
from orchestrator.cost.states import state_bytes_of
from orchestrator.cost.workload import Workload
from orchestrator.records.layout import Layout, Recompute
from orchestrator.specs.choices import RecomputeGranularity
from orchestrator.specs.numerics import NumericsSpec

FSDP_STAGE = 2
WHOLE_STAGE = 3
DENSE_TRIALS = (("layernorm", "mlp"),)
MOE_TRIALS = (
    ("layernorm", "moe_act", "mla_up_proj"),
    ("layernorm", "moe", "mla_up_proj"),
)
"""What is recomputed before whole layers are, least first."""

GUESSED_SHARDING = "sharding=distopt inferred"
"""What the notes of a row say whose source does not name its sharding."""

SHARDED = "parameters and gradients sharded too, as they would not fit"
HALVED = "activations of half of the layers on the host"
HALF = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A row with one more thing assumed; `told` is empty where nothing is."""

    workload: Workload
    layout: Layout
    told: str = ""

    @property
    def fits(self) -> bool:
        """Whether its fullest rank has room."""
        needed_bytes = memory_of(self.workload, self.layout).total_bytes
        return needed_bytes <= self.workload.chip.memory_bytes


def fitting(row: Row, workload: Workload, layout: Layout) -> tuple[Workload, Layout]:
    """Return a row with the least assumed that lets it fit, or as it is where nothing does."""
    if states_floor_bytes(workload, layout) > workload.chip.memory_bytes:
        # `distopt` is a guess of many sources; states that do not fit were sharded further.
        row.assume(SHARDED)
        layout = replace(layout, zero_stage=WHOLE_STAGE)
    first = Trial(workload=workload, layout=layout)
    more = _states(first) if row.text("recompute") else _unsaid(row, first)
    chosen = next((one for one in (first, *more) if one.fits), first)
    if chosen is first and not row.text("recompute") and not first.fits:
        chosen = _recomputed(first, None)
    if chosen.told:
        row.assumed[:] = [text for text in row.assumed if text != "no recomputation"]
        row.assume(chosen.told)
    return chosen.workload, chosen.layout


def _states(first: Trial) -> Iterator[Trial]:
    """Yield a stated recomputation with the optimizer's states in 16 bits (precision-aware)."""
    moments = NumericsSpec(
        gradients="bf16",
        optimizer_gradients="bf16",
        first_moment="bf16",
        second_moment="bf16",
        narrow_parameters=first.workload.matmul_format.is_narrow,
    )
    if first.workload.software.family == MEGATRON:
        states = state_bytes_of(first.workload.precision, moments)
        told = "gradients and moments in bf16, as wider ones would not fit"
        yield replace(first, workload=replace(first.workload, states=states), told=told)


def _unsaid(row: Row, first: Trial) -> Iterator[Trial]:
    """Yield what a row may have had that does not tell its recomputation.

    Megatron's FSDP recipes keep activations of half of the layers on the host before they
    recompute.
    """
    megatron = first.workload.software.family == MEGATRON
    if megatron and first.layout.zero_stage >= FSDP_STAGE:
        yield _halved(first, told=HALVED)
    for modules in MOE_TRIALS if first.workload.shape.experts else DENSE_TRIALS:
        yield _recomputed(first, modules)
    if GUESSED_SHARDING in row.text("notes") and first.layout.zero_stage < FSDP_STAGE:
        sharded = replace(first, layout=replace(first.layout, zero_stage=WHOLE_STAGE), told=SHARDED)
        yield sharded
        if megatron:
            yield _halved(sharded, told=f"{SHARDED}; {HALVED}")


def _halved(trial: Trial, *, told: str) -> Trial:
    return replace(trial, workload=replace(trial.workload, offloaded_share=HALF), told=told)


def _recomputed(trial: Trial, modules: tuple[str, ...] | None) -> Trial:
    """Return a trial that recomputes some modules; None is everything."""
    if modules is None:
        whole = Recompute(granularity=RecomputeGranularity.FULL)
        told = "full recomputation, as nothing else would fit"
        return replace(trial, layout=replace(trial.layout, recompute=whole), told=told)
    some = Recompute(granularity=RecomputeGranularity.SELECTIVE, modules=modules)
    told = f"recomputation of {' '.join(modules)}, as more would not fit"
    return replace(trial, layout=replace(trial.layout, recompute=some), told=told)
