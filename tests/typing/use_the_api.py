"""The public API as a user types it; `make check` runs mypy --strict over this folder."""

from orchestrator import api
from orchestrator.specs.choices import Precision


def best_layout(gpus: int) -> api.Layout:
    run: api.ResolvedRun = api.default_run(
        model="gpt3-175b", cluster="dgx-h100", gpus=gpus, precision=Precision.BF16
    )
    report: api.PlanReport = api.plan(run, keep=1)
    best: api.Plan = report.plans[0]
    return best.layout


def broken_rules(text: str) -> list[str]:
    run = api.read_run(text, file="run.yaml")
    return [problem.rule for problem in api.problems(run)]


def bundle_of(plan: api.Plan) -> api.EngineBundle:
    engine: api.Engine = api.engine_named("megatron-core")
    return engine.render(plan)
