"""The part of `validate` that `--engine-check` adds: its table, its JSON keys, its error."""

from dataclasses import dataclass, field
from typing import Any

from rich.console import RenderableType

from orchestrator.cli.engine_check import checked
from orchestrator.cli.engine_check_questions import DEEPSPEED, Job
from orchestrator.cli.engine_check_text import answers_document, answers_picture
from orchestrator.cli.progress import counting
from orchestrator.engines.deepspeed.engine import CONFIG_FILE
from orchestrator.engines.registry import engine_named
from orchestrator.errors import EngineRefused
from orchestrator.records.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class EnginePage:
    """What engines answered; all empty where none was asked."""

    picture: RenderableType = ""
    document: dict[str, Any] = field(default_factory=dict)
    error: EngineRefused | None = None


def engine_page_of(plan: Plan | None) -> EnginePage:
    """Return what the installed engines say of a plan; None asks nobody.

    Raises:
        HostError: the run's engine is not installed.
        EngineRefused: the installed engine is not as we know it.
    """
    if plan is None:
        return EnginePage()
    with counting("asking the engine") as told:
        answers = checked(_job(plan), told)
    errors = [answer.error() for answer in answers if not answer.is_equal]
    return EnginePage(
        picture=answers_picture(answers),
        document={"engine_check": answers_document(answers)},
        error=errors[0] if errors else None,
    )


def _job(plan: Plan) -> Job:
    config = None
    if plan.run.spec.engine.name == DEEPSPEED:
        files = engine_named(DEEPSPEED).render(plan).files
        config = next(file.text for file in files if file.path == CONFIG_FILE)
    return Job(run=plan.run, layout=plan.layout, config=config)
