"""What `llmorch schedule` is asked about: a schedule with times, from flags or from a run file."""

import math
from dataclasses import dataclass
from pathlib import Path

from orchestrator import api
from orchestrator.cli.files import text_of
from orchestrator.cli.stage_times import modelled_times
from orchestrator.cost.memory import stage_activation_bytes
from orchestrator.cost.workload import Workload, workload_of
from orchestrator.errors import UsageError
from orchestrator.records.layout import Layout
from orchestrator.schedules.memory import StageMemory
from orchestrator.schedules.schedule import Schedule, build
from orchestrator.schedules.times import MAX_NS, StageTimes
from orchestrator.specs.choices import ScheduleKind

_NS_PER_MS = 1e6

_DEFAULT_CHUNKS = {
    ScheduleKind.NO_PIPELINE: 1,
    ScheduleKind.ONE_F_ONE_B: 1,
    ScheduleKind.GPIPE: 1,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """The flags of the command; None where one was not given."""

    kind: ScheduleKind | None
    stages: int | None
    microbatches: int | None
    virtual: int | None
    group: int | None
    forward_ms: float
    backward_ms: float
    weight_ms: float | None
    latency_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCase:
    """The numbers of a run file, and the layout that it says or that was planned."""

    workload: Workload
    layout: Layout


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleCase:
    """A schedule with the times of its stages; `memory` and `run` are None without a run file."""

    title: str
    schedule: Schedule
    times: StageTimes
    memory: StageMemory | None = None
    run: RunCase | None = None


def case_of(flags: Flags) -> ScheduleCase:
    """Return the case that flags say.

    Raises:
        UsageError: a flag is missing, a time is not one, or engines refuse the schedule.
    """
    if flags.kind is None or flags.stages is None or flags.microbatches is None:
        raise UsageError(
            problem="which schedule? give a run file, or --kind, --stages and --microbatches",
            instead="llmorch schedule --kind 1f1b --stages 4 --microbatches 8; kinds: "
            + ", ".join(ScheduleKind),
        )
    vpp = flags.virtual if flags.virtual is not None else _DEFAULT_CHUNKS.get(flags.kind, 2)
    times = _times_of(flags, num_stages=max(1, flags.stages) * max(1, vpp))
    schedule = build(
        flags.kind,
        pp=flags.stages,
        vpp=vpp,
        num_microbatches=flags.microbatches,
        microbatch_group_size=_group_of(flags),
    )
    return ScheduleCase(title=str(flags.kind), schedule=schedule, times=times)


def case_of_run(path: Path) -> ScheduleCase:
    """Return the case of a run file, its times and bytes modelled; planned where it has no layout.

    Raises:
        InvalidFile: the file breaks its format or a rule.
        NoPlanFits: it has no layout and none fits.
    """
    run = api.read_run(text_of(path), file=str(path))
    layout = api.plan(run, keep=1).plans[0].layout
    workload = workload_of(run)
    schedule = build(
        layout.schedule,
        pp=layout.pp,
        vpp=layout.vpp,
        num_microbatches=layout.num_microbatches(workload.global_batch_size),
        microbatch_group_size=layout.microbatch_group_size,
    )
    return ScheduleCase(
        title=f"{run.spec.name}: {layout.schedule}",
        schedule=schedule,
        times=modelled_times(workload, layout),
        memory=StageMemory(
            activation_bytes=tuple(map(round, stage_activation_bytes(workload, layout)))
        ),
        run=RunCase(workload=workload, layout=layout),
    )


def _group_of(flags: Flags) -> int:
    if flags.group is not None:
        return flags.group
    assert flags.stages is not None and flags.microbatches is not None  # noqa: S101, PT018
    if flags.kind is ScheduleKind.ZERO_BUBBLE:
        rounds = max(1, flags.microbatches // max(1, flags.stages))
        return max(1, flags.microbatches // rounds)
    return flags.stages


def _times_of(flags: Flags, *, num_stages: int) -> StageTimes:
    forward_ns = _nanoseconds("--forward-ms", flags.forward_ms)
    backward_ns = _nanoseconds("--backward-ms", flags.backward_ms)
    latency_ns = _nanoseconds("--latency-ms", flags.latency_ms, least_ns=0)
    weight_ns = None
    if flags.weight_ms is not None:
        weight_ns = _nanoseconds("--weight-ms", flags.weight_ms)
        if weight_ns >= backward_ns:
            raise UsageError(
                problem=f"--weight-ms {flags.weight_ms:g} is not a part of the backward, "
                f"{flags.backward_ms:g} ms",
                instead="less than --backward-ms",
            )
    _expect_few(num_stages)
    return StageTimes.uniform(
        num_stages=num_stages,
        forward_ns=forward_ns,
        backward_ns=backward_ns,
        weight_grad_ns=weight_ns,
        latency_ns=latency_ns,
    )


def _expect_few(num_stages: int) -> None:
    most = 100_000
    if num_stages > most:
        raise UsageError(
            problem=f"{num_stages:,} stages are more than {most:,}", instead="look for a mistype"
        )


def _nanoseconds(flag: str, value_ms: float, *, least_ns: int = 1) -> int:
    if not math.isfinite(value_ms):
        raise UsageError(problem=f"{flag} {value_ms} is not a time", instead="milliseconds")
    value_ns = round(value_ms * _NS_PER_MS)
    if not least_ns <= value_ns <= MAX_NS:
        least = "0" if least_ns == 0 else "0.000001"
        raise UsageError(
            problem=f"{flag} {value_ms:g} is not a time",
            instead=f"milliseconds from {least} to {MAX_NS / _NS_PER_MS:g}",
        )
    return value_ns
