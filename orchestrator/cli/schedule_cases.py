"""What `llmorch schedule` is asked about: a schedule with times, from flags or from a run file."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from orchestrator import api
from orchestrator.cli.files import text_of
from orchestrator.cli.stage_times import modelled_times
from orchestrator.cost.memory import stage_activation_bytes
from orchestrator.cost.workload import Workload, workload_of
from orchestrator.errors import EngineRefused, UsageError
from orchestrator.records.engine import EngineCapabilities
from orchestrator.records.layout import Layout
from orchestrator.schedules.engines import PipelineEngine
from orchestrator.schedules.memory import StageMemory
from orchestrator.schedules.refusal import Refusal
from orchestrator.schedules.runners import GROUPED, runners_of, usual_group_size
from orchestrator.schedules.schedule import Schedule, build
from orchestrator.schedules.times import MAX_NS, StageTimes
from orchestrator.specs.choices import ScheduleKind

_NS_PER_MS = 1e6
_FORWARD_MS, _BACKWARD_MS, _LATENCY_MS = 10.0, 20.0, 0.0

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
    forward_ms: float | None
    backward_ms: float | None
    weight_ms: float | None
    latency_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCase:
    """The numbers of a run file, and the layout that it says or that was planned."""

    workload: Workload
    layout: Layout
    needed_bytes: float
    accelerator_bytes: float

    @property
    def fits(self) -> bool:
        """Whether the fullest rank's memory, modelled, fits in an accelerator."""
        return self.needed_bytes <= self.accelerator_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleCase:
    """A schedule with the times of its stages; `memory` and `run` are None without a run file."""

    title: str
    schedule: Schedule
    times: StageTimes
    memory: StageMemory | None = None
    run: RunCase | None = None


def case_asked(run_file: Path | None, flags: Flags) -> ScheduleCase:
    """Return the case of a run file, or of flags where there is none.

    Raises:
        UsageError: both say the schedule, or as for `case_of`.
        LlmorchError: as for `case_of_run`.
    """
    if run_file is None:
        return case_of(flags)
    said = [
        f"--{field.name.replace('_', '-')}"
        for field in fields(flags)
        if getattr(flags, field.name) is not None
    ]
    if said:
        raise UsageError(
            problem=f"{' and '.join(said)} beside a run file: {run_file} says schedule, sizes and "
            "times already",
            instead="leave the flags out, or the run file",
        )
    return case_of_run(run_file)


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
    schedule = _schedule_of(
        flags.kind, pp=flags.stages, vpp=vpp, num_microbatches=flags.microbatches, group=flags.group
    )
    return ScheduleCase(title=str(flags.kind), schedule=schedule, times=times)


def case_of_run(path: Path) -> ScheduleCase:
    """Return the case of a run file, its times and bytes modelled; planned where it has no layout.

    Raises:
        InvalidFile: the file breaks its format or a rule.
        UnknownName: there is no engine of that name.
        EngineRefused: its engine does not run its schedule.
        NoPlanFits: it has no layout and none fits.
    """
    run = api.read_run(text_of(path), file=str(path))
    capabilities = api.engine_named(run.spec.engine.name).capabilities()
    plan = api.plan(run, capabilities=capabilities, keep=1).plans[0]
    layout = plan.layout
    _expect_run_by(capabilities, layout.schedule, file=str(path))
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
        run=RunCase(
            workload=workload,
            layout=layout,
            needed_bytes=plan.memory.total_bytes,
            accelerator_bytes=run.machine.memory_bytes,
        ),
    )


def _expect_run_by(capabilities: EngineCapabilities, kind: ScheduleKind, *, file: str) -> None:
    if kind not in capabilities.schedules:
        raise EngineRefused(
            engine=capabilities.name,
            reason=f"{file}: layout.schedule: {kind} is not run by {capabilities.name}",
            instead=f"possible: {', '.join(capabilities.schedules)}; "
            f"or see it with --kind {kind} and no run file",
        )


def _schedule_of(
    kind: ScheduleKind, *, pp: int, vpp: int, num_microbatches: int, group: int | None
) -> Schedule:
    """Return a schedule that at least one engine runs."""
    if group is not None and kind not in GROUPED:
        raise UsageError(
            problem=f"--group {group} means nothing to {kind}: its groups cannot be chosen",
            instead=f"leave it out; it goes with {' and '.join(GROUPED)}",
        )
    if group is None:
        group = usual_group_size(kind, pp=pp, vpp=vpp, num_microbatches=num_microbatches)
    sizes = {
        "pp": pp,
        "vpp": vpp,
        "num_microbatches": num_microbatches,
        "microbatch_group_size": group,
    }
    runners = runners_of(kind, **sizes)
    if not runners.switches:
        raise _refused_by_all(runners.refusals)
    return build(kind, engine=next(iter(runners.switches)), **sizes)


def _refused_by_all(refusals: Mapping[PipelineEngine, Refusal]) -> UsageError:
    """Return why no engine runs a schedule; a reason that all share is said once."""
    reasons = {refused.reason: refused.possible for refused in refusals.values()}
    if len(reasons) == 1 and len(refusals) > 1:
        ((reason, possible),) = reasons.items()
        return UsageError(problem=reason, instead=possible)
    return UsageError(
        problem="; ".join(f"{engine}: {refused.reason}" for engine, refused in refusals.items()),
        instead="; ".join(
            f"{engine}: {refused.possible}"
            for engine, refused in refusals.items()
            if refused.possible
        ),
    )


def _times_of(flags: Flags, *, num_stages: int) -> StageTimes:
    backward_ms = _BACKWARD_MS if flags.backward_ms is None else flags.backward_ms
    forward_ns = _nanoseconds("--forward-ms", flags.forward_ms, absent_ms=_FORWARD_MS)
    backward_ns = _nanoseconds("--backward-ms", backward_ms)
    latency_ns = _nanoseconds("--latency-ms", flags.latency_ms, absent_ms=_LATENCY_MS, least_ns=0)
    weight_ns = None
    if flags.weight_ms is not None:
        weight_ns = _nanoseconds("--weight-ms", flags.weight_ms)
        if weight_ns >= backward_ns:
            raise UsageError(
                problem=f"--weight-ms {_typed(flags.weight_ms)} is not a part of the backward, "
                f"{_typed(backward_ms)} ms",
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


def _nanoseconds(
    flag: str, value_ms: float | None, *, absent_ms: float = 0.0, least_ns: int = 1
) -> int:
    if value_ms is None:
        value_ms = absent_ms
    if not math.isfinite(value_ms):
        raise UsageError(problem=f"{flag} {value_ms} is not a time", instead="milliseconds")
    value_ns = round(value_ms * _NS_PER_MS)
    if not least_ns <= value_ns <= MAX_NS:
        least = "0" if least_ns == 0 else "0.000001"
        raise UsageError(
            problem=f"{flag} {_typed(value_ms)} is not a time",
            instead=f"milliseconds from {least} to {MAX_NS / _NS_PER_MS:,.0f}",
        )
    return value_ns


def _typed(value_ms: float) -> str:
    """Return a time as it was typed, not rounded to six digits."""
    return f"{value_ms:.15g}"
