"""The public door: a planned run file says the plan, and parses back to it."""

import pytest

from orchestrator import api
from orchestrator.catalog.layouts import layout_of, layout_spec_of
from orchestrator.specs.choices import Precision


@pytest.mark.parametrize(
    ("model", "gpus"),
    [("gpt3-175b", 1024), ("llama-3.1-405b", 2048), ("mixtral-8x7b", 64), ("llama-2-13b", 8)],
)
def test_every_planned_layout_survives_the_run_file(model, gpus):
    run = api.default_run(model=model, cluster="dgx-h100", gpus=gpus, precision=Precision.BF16)

    for plan in api.plan(run, keep=20).plans:
        spec = layout_spec_of(plan.layout)
        assert layout_of(spec, model=run.model, world_size=gpus) == plan.layout
        again = api.read_run(api.run_file_of(plan), file="again.yaml")
        assert again.layout == plan.layout


def test_a_run_with_a_layout_is_priced_and_not_searched():
    run = api.default_run(
        model="llama-2-13b", cluster="dgx-h100", gpus=64, precision=Precision.BF16
    )
    best = api.plan(run, keep=1).plans[0]
    planned = api.read_run(api.run_file_of(best), file="run.yaml")

    report = api.plan(planned)

    assert report.evaluated == 1
    assert report.plans[0].layout == best.layout
    assert report.plans[0].step_time_s == pytest.approx(best.step_time_s)
