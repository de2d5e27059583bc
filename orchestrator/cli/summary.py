"""What a run came to: planned against measured, and its accounts."""

from collections.abc import Callable
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from launch.supervisor.outcome import RunOutcome
from orchestrator.records.plan import Plan
from orchestrator.units import TFLOP, text_of_count, text_of_seconds

SCHEMA = 1


def document(plan: Plan, outcome: RunOutcome) -> dict[str, Any]:
    """Return the summary as JSON; measured figures are medians over the run's steps."""
    return {
        "schema": SCHEMA,
        "run": plan.run.name,
        "run_directory": outcome.run_directory,
        "verdict": outcome.verdict.value,
        "reason": outcome.reason,
        "last_step": outcome.last_step,
        "steps": plan.run.steps,
        "first_loss": outcome.first_loss,
        "last_loss": outcome.last_loss,
        "wall_s": outcome.wall_s,
        "generations": outcome.generations,
        "restarts": [
            {
                "generation": restart.generation,
                "reason": restart.reason,
                "resume_step": restart.resume_step,
                "recovery_s": restart.recovery_s,
            }
            for restart in outcome.restarts
        ],
        "committed_steps": list(outcome.committed_steps),
        "planned": _planned(plan),
        "measured": _measured(plan, outcome),
    }


def picture(plan: Plan, outcome: RunOutcome) -> RenderableType:
    """Return the summary for people."""
    planned, measured = _planned(plan), _measured(plan, outcome)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for name in ("planned (modelled)", "measured (median)", "measured / planned"):
        table.add_column(name, justify="right")
    for key, name, text in _ROWS:
        table.add_row(name, text(planned[key]), *_comparison(planned[key], measured[key], text))
    done = f"{outcome.last_step or 0} of {plan.run.steps} steps in {outcome.wall_s:.1f} s"
    loss = ""
    if outcome.first_loss is not None and outcome.last_loss is not None:
        loss = f", loss {outcome.first_loss:.3f} -> {outcome.last_loss:.3f}"
    kept = ", ".join(str(step) for step in outcome.committed_steps) or "none"
    accounts = f"{outcome.generations} generation(s), {len(outcome.restarts)} restart(s)"
    lines = [f"{outcome.verdict.value}: {done}{loss}", f"{accounts}; checkpoints kept: {kept}"]
    return Group(
        *(Text(line) for line in lines), table, Text(f"all of it: {outcome.run_directory}")
    )


def _planned(plan: Plan) -> dict[str, float]:
    world = plan.layout.world_size
    return {
        "step_s": plan.step_time_s,
        "tokens_per_s": plan.tokens_per_s_per_gpu * world,
        "model_tflops_per_gpu": plan.model_flop_per_s_per_gpu / TFLOP,
    }


def _measured(plan: Plan, outcome: RunOutcome) -> dict[str, float | None]:
    step_s = outcome.median_step_s
    flop_per_s = plan.model_flop_per_step / step_s / plan.layout.world_size if step_s else None
    return {
        "step_s": step_s,
        "tokens_per_s": outcome.median_tokens_per_s,
        "model_tflops_per_gpu": flop_per_s / TFLOP if flop_per_s else None,
    }


def _comparison(
    planned: float, measured: float | None, text: Callable[[float], str]
) -> tuple[str, str]:
    if measured is None:
        return "-", "-"
    return text(measured), f"{measured / planned:.2f}"


_ROWS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("step_s", "step", text_of_seconds),
    ("tokens_per_s", "tokens/s, all ranks", text_of_count),
    ("model_tflops_per_gpu", "model TFLOP/s a rank", lambda rate: f"{rate:.4f}"),
)
