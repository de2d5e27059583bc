"""The stage layout of a run that makes its step shortest, from modelled times and bytes."""

from dataclasses import dataclass, replace

from orchestrator.cli.schedule_cases import RunCase, ScheduleCase
from orchestrator.cli.stage_times import modelled_times
from orchestrator.cost.memory import overhead_bytes, stage_activation_bytes, stage_state_bytes
from orchestrator.cost.workload import Workload
from orchestrator.errors import UsageError
from orchestrator.records.layout import Layout
from orchestrator.schedules.balance import Balance, Piece, Pieces, Pipeline, balanced

_ACTIONS = 30_000_000
"""Actions that are simulated in all, some ten seconds in plain Python."""

_FEWEST, _MOST = 100, 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class BalanceReport:
    """What was found, beside the makespan of the run's own layout."""

    balance: Balance
    own_ns: int


def balance_of(case: ScheduleCase, *, own_ns: int) -> BalanceReport:
    """Return the shortest layout of a run file's layers that fits in its accelerators' memory.

    Raises:
        UsageError: the case is not of a run file, or nothing fits.
    """
    if case.run is None:
        raise UsageError(
            problem="--balance needs to know layers and memory", instead="give a run file"
        )
    schedule = case.schedule
    found = balanced(
        _pieces(case.run),
        pipeline=Pipeline(
            kind=schedule.kind,
            pp=schedule.pp,
            vpp=schedule.vpp,
            num_microbatches=schedule.num_microbatches,
            microbatch_group_size=schedule.microbatch_group_size,
            latency_ns=case.times.latency_ns,
            memory_bytes=_room_bytes(case.run.workload, case.run.layout),
        ),
        budget=max(_FEWEST, min(_MOST, _ACTIONS // schedule.num_actions)),
    )
    return BalanceReport(balance=found, own_ns=own_ns)


def _room_bytes(workload: Workload, layout: Layout) -> int:
    """Return what a rank may hold of states and activations in flight."""
    return int(workload.chip.memory_bytes - overhead_bytes(workload, layout))


def _pieces(run: RunCase) -> Pieces:
    """Return the layers of a model one by one, as if each were a stage of its own."""
    shape = run.workload.shape
    layers, mtp = "t|" * shape.num_layers, "m" * shape.mtp_layers
    together = _priced(run, f"E|{layers}{mtp}L")
    if not mtp:
        return Pieces(embedding=together[0], layers=tuple(together[1:-1]), loss=together[-1])
    # The loss is taken once more for each prediction depth: it is what is left beside their layers.
    apart = _priced(run, f"E|{layers}{mtp}|L")
    return Pieces(
        embedding=apart[0],
        layers=tuple(apart[1:-2]),
        mtp=(apart[-2],),
        loss=_less(together[-1], apart[-2]),
    )


def _priced(run: RunCase, text: str) -> list[Piece]:
    num_stages = text.count("|") + 1
    layout = replace(run.layout, pp=num_stages, vpp=1, stage_layout=text)
    times = modelled_times(run.workload, layout)
    return [
        Piece(
            forward_ns=forward_ns,
            backward_ns=backward_ns,
            activation_bytes=round(activations),
            state_bytes=round(states),
        )
        for forward_ns, backward_ns, activations, states in zip(
            times.forward_ns,
            times.backward_ns,
            stage_activation_bytes(run.workload, layout),
            stage_state_bytes(run.workload, layout),
            strict=True,
        )
    ]


def _less(whole: Piece, part: Piece) -> Piece:
    return Piece(
        forward_ns=max(0, whole.forward_ns - part.forward_ns),
        backward_ns=max(0, whole.backward_ns - part.backward_ns),
        activation_bytes=max(0, whole.activation_bytes - part.activation_bytes),
        state_bytes=max(0, whole.state_bytes - part.state_bytes),
    )
