"""The README of a generated folder: what each file is, and why each part of it is there."""

from itertools import groupby

from orchestrator.catalog.environment import environment_of
from orchestrator.cli.generated_script import starter_of
from orchestrator.cli.plan_table import headline
from orchestrator.records.bundle import EngineBundle
from orchestrator.records.plan import Plan
from orchestrator.specs.choices import StarterKind
from orchestrator.units import gib, text_of_seconds

_DEEPSPEED_START = ("bash deepspeed.sh  # DeepSpeed's launcher; on one host, for all",)


def readme_text(plan: Plan, bundle: EngineBundle) -> str:
    """Return Markdown for whoever finds the folder later."""
    return "\n".join(
        (
            f"# {plan.run.name}",
            "",
            f"{headline(plan.run)}, for {bundle.engine}.",
            _modelled(plan),
            "",
            *_starts(plan, bundle),
            *_files(plan, bundle),
            *_site(plan),
            *_unsaid(bundle),
            *_reasons(bundle),
        )
    )


def _modelled(plan: Plan) -> str:
    memory = gib(plan.memory.total_bytes)
    step = text_of_seconds(plan.step_time_s)
    return f"Modelled: {step} a step, {memory:.1f} GiB on the fullest rank."


def _starts(plan: Plan, bundle: EngineBundle) -> tuple[str, ...]:
    hosts = plan.run.machine.hosts
    if starter_of(plan) is StarterKind.AGENT:
        how = "starter: agent; once, supervised to the last step (llmorch launch run.yaml)"
    else:
        where = "this host" if hosts == 1 else f"each of {hosts} hosts"
        how = f"starter: torchrun; on {where}, without llmorch"
    own = _DEEPSPEED_START[: bundle.engine.startswith("deepspeed@")]
    return ("## Start", "", "```", f"bash run.sh      # {how}", *own, "```", "")


def _files(plan: Plan, bundle: EngineBundle) -> tuple[str, ...]:
    agent = starter_of(plan) is StarterKind.AGENT
    started = "starts the run" if agent else f"starts a host's ranks with {bundle.torchrun[0]}"
    own = tuple(f"| `{file.path}` | read by the engine |" for file in bundle.files)
    return (
        "| file | what it is |",
        "|---|---|",
        f"| `run.sh` | {started} |",
        "| `arguments.sh` | the command of every rank, with reasons |",
        "| `environment.sh` | the variables of every rank, with reasons |",
        *own,
        "| `run.yaml` | the run file with every choice made |",
        "| `plan.json` | the plan, with its modelled costs |",
        "",
    )


def _site(plan: Plan) -> tuple[str, ...]:
    card = environment_of(plan.run.machine.cluster)
    if card is None:
        return ()
    asked = [f"- `{name}`: {what}" for name, what in sorted(card.site.items())]
    script = [f"- source `{card.init_script}` before the start"] if card.init_script else []
    needs = [f"- needed: {need}" for need in card.needs]
    avoid = [f"- avoid {what}" for what in card.avoid]
    lines = [*asked, *script, *needs, *avoid]
    return ("## What the site must give", "", *lines, "") if lines else ()


def _unsaid(bundle: EngineBundle) -> tuple[str, ...]:
    if not bundle.unsaid:
        return ()
    rows = [f"| `{one.key}` | {one.why} |" for one in bundle.unsaid]
    title = "## Said by the run file, and not by this command"
    return (title, "", "| key | why |", "|---|---|", *rows, "")


def _reasons(bundle: EngineBundle) -> tuple[str, ...]:
    if not bundle.reasons:
        return ()
    lines = ["## Why each part is there", ""]
    for section, reasons in groupby(bundle.reasons, key=lambda reason: reason.section):
        rows = [f"| `{reason.part}` | {reason.why} |" for reason in reasons]
        lines += [f"### {section}", "", "| part | why |", "|---|---|", *rows, ""]
    return tuple(lines)
