"""A law: a command of `pretrain_gpt.py`, read from Megatron's side, gives the plan back."""

import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings

from orchestrator import api
from orchestrator.engines.megatron_lm.engine import MegatronLmEngine
from orchestrator.engines.megatron_lm.flags import RELEASES
from orchestrator.errors import EngineRefused, InvalidFile
from orchestrator.records.plan import Plan
from tests.engine.megatron_lm_reading import meant, read, said_by_words
from tests.engine.megatron_lm_runs import run_documents

ENGINE = MegatronLmEngine()


def plan_of(document: dict) -> Plan:
    run = api.read_run(yaml.safe_dump(document), file="drawn")
    return api.plan(run, capabilities=ENGINE.capabilities(), keep=1).plans[0]


@pytest.mark.parametrize("release", RELEASES)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(document=run_documents())
def test_rendered_arguments_read_back_are_the_plan(release, document):
    own = {"name": "megatron-lm", "version": release, "checkout": "/m"}
    try:
        plan = plan_of({**document, "engine": {**document["engine"], **own}})
        bundle = ENGINE.render(plan)
    except (InvalidFile, EngineRefused):
        assume(False)

    assert read(said_by_words(bundle.argv[2:], release)) == meant(plan)
