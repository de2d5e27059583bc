"""A plan as people read it: a ranked table, then the best one taken apart."""

from dataclasses import asdict

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.records.layout import Layout
from orchestrator.records.plan import Plan, PlanReport
from orchestrator.records.run import ResolvedRun
from orchestrator.specs.choices import RecomputeGranularity
from orchestrator.units import SECONDS_PER_DAY, TFLOP, gib, text_of_count, text_of_seconds

_BAR_COLUMNS = 24


def picture(run: ResolvedRun, report: PlanReport) -> Group:
    """Return the whole answer of `llmorch plan`: ranking, the best taken apart, and why."""
    parts: list[RenderableType] = [
        Text(headline(run)),
        Text(f"All times and sizes are modelled; {_accuracy(report.plans[0])}.", style="dim"),
        Text(),
        ranking(report),
        Text(),
        dissection(report.plans[0]),
    ]
    if report.explanation:
        parts += [Text("\nwhy the first is best", style="bold"), sentences(report)]
    if report.rejected:
        parts += [Text(), rejections(report)]
    return Group(*parts)


def headline(run: ResolvedRun) -> str:
    """Return the question in one line: what is trained, on what, how long."""
    machine, training = run.machine, run.training
    gpus = f"{machine.world_size:,} x {machine.accelerator.name}"
    return (
        f"{run.model.name} on {gpus} ({machine.cluster.name}), {training.precision}, "
        f"sequence {training.sequence_length:,}, batch {training.global_batch_size:,}, "
        f"{text_of_count(run.tokens)} tokens"
    )


def ranking(report: PlanReport) -> Table:
    """Return the ranked layouts; every figure in it is modelled."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("", "tp", "cp", "pp", "vpp", "dp", "ep", "mbs"):
        table.add_column(name, justify="right")
    table.add_column("recompute")
    for name in ("memory", "bubble", "step", "MFU", "days"):
        table.add_column(name, justify="right")
    table.add_column("largest loss")
    for place, plan in enumerate(report.plans, start=1):
        layout = plan.layout
        degrees = (layout.tp, layout.cp, layout.pp, layout.vpp, layout.dp, layout.ep)
        table.add_row(
            str(place),
            *(str(degree) for degree in degrees),
            str(layout.micro_batch_size),
            _recompute(layout),
            f"{gib(plan.memory.total_bytes):.1f} GiB",
            f"{plan.bubble.fraction:.1%}",
            text_of_seconds(plan.step_time_s),
            f"{plan.mfu:.1%}",
            f"{plan.training_s / SECONDS_PER_DAY:.1f}",
            plan.binding_limit,
            style="bold" if place == 1 else "",
        )
    return table


def dissection(plan: Plan) -> Group:
    """Return where the time and the memory of a plan go, largest part first."""
    time = {_words(name, "_s"): value for name, value in asdict(plan.cost).items()}
    memory = {_words(name, "_bytes"): value for name, value in asdict(plan.memory).items()}
    rate = plan.model_flop_per_s_per_gpu / TFLOP
    usable = gib(plan.run.machine.memory_bytes)
    return Group(
        Text(
            f"the best: step {text_of_seconds(plan.step_time_s)}, "
            f"{plan.num_microbatches} microbatches, "
            f"{plan.tokens_per_s_per_gpu:,.0f} tokens/s and {rate:.0f} model TFLOP/s per GPU"
        ),
        _shares(time, unit=text_of_seconds),
        Text(f"memory {gib(plan.memory.total_bytes):.1f} of {usable:.1f} GiB on the fullest rank"),
        _shares(memory, unit=lambda size: f"{gib(size):.1f} GiB"),
    )


def _accuracy(plan: Plan) -> str:
    """Return how far the best plan's step may be off, and what its rates rest on."""
    if plan.interval_s is None:
        return f"rates are {plan.rates.value}s: no measured run of this accelerator and precision"
    low, high = (part / plan.step_time_s - 1 for part in plan.interval_s)
    return f"rates are fitted, and 4 of 5 measured steps lie within {low:+.0%} to {high:+.0%}"


def sentences(report: PlanReport) -> Table:
    """Return the explanation, one hanging paragraph a sentence."""
    table = Table.grid(padding=(0, 1))
    table.add_column()
    table.add_column(overflow="fold")
    for sentence in report.explanation:
        table.add_row(" -", Text(sentence))
    return table


def rejections(report: PlanReport) -> Table:
    """Return why the others fell out."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("rejected", justify="right")
    table.add_column("rule")
    table.add_column("example", overflow="fold")
    for rejection in report.rejected:
        table.add_row(f"{rejection.count:,}", rejection.rule, Text(rejection.example))
    return table


def _shares(parts: dict[str, float], *, unit: object) -> Table:
    assert callable(unit)  # noqa: S101
    total = sum(parts.values())
    table = Table(box=None, show_header=False, pad_edge=False)
    for _ in range(3):
        table.add_column(justify="right")
    table.add_column()
    for name, value in sorted(parts.items(), key=lambda item: -item[1]):
        if value > 0:
            share = value / total
            table.add_row(name, unit(value), f"{share:.1%}", "█" * round(share * _BAR_COLUMNS))
    return table


def _words(field: str, suffix: str) -> str:
    return f"  {field.removesuffix(suffix).replace('_', ' ')}"


def _recompute(layout: Layout) -> str:
    recompute = layout.recompute
    match recompute.granularity:
        case RecomputeGranularity.NONE:
            return "none"
        case RecomputeGranularity.SELECTIVE:
            return f"selective: {' '.join(recompute.modules)}"
        case RecomputeGranularity.FULL:
            return f"full: {recompute.layers} a chunk" if recompute.layers else "full"
