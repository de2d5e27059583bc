"""Nothing of a run file is dropped in silence: each engine says a key, or refuses it by name."""

import json
from functools import cache
from typing import Any

import pytest

from orchestrator import api
from orchestrator.engines.megatron_lm.flags import RELEASES
from orchestrator.errors import EngineRefused, InvalidFile
from orchestrator.records.bundle import EngineBundle
from tests.unit.broken_runs import run_of
from tests.unit.run_file_keys import ABOUT, BASE, ONE_VALUE, SAMPLES, Sample, keys

SCRIPTED = {"name": "deepspeed", "version": "0.19.8", "script": "/opt/train.py"}
ENGINES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("megatron-core", {"name": "megatron-core"}),
    *(
        (f"megatron-lm-{r}", {"name": "megatron-lm", "version": r, "checkout": "/opt/megatron"})
        for r in RELEASES
    ),
    ("deepspeed", SCRIPTED),
)

_BY_LAUNCHER = "llmorch launch reads it; a rank is started the same"
_DERIVED = "says the same as pp and vpp do"

IRRELEVANT: dict[str, dict[str, str]] = {
    "megatron-core": {
        **dict.fromkeys(
            (sample.key for sample in SAMPLES if sample.key.startswith(("launch.", "supervise."))),
            _BY_LAUNCHER,
        ),
        "name": "names the run directory, which llmorch launch makes",
        "cluster.spares": _BY_LAUNCHER,
        "checkpoint.keep": "the controller deletes old checkpoints",
        "layout.overlap": "tp: validate notes that the worker does not overlap it",
    },
    "megatron-lm": {
        "launch.starter": "generate reads it: which script is written",
        "launch.start": _BY_LAUNCHER,
        "launch.rendezvous_port": "generate reads it: the script's port",
    },
    "deepspeed": {
        "launch.starter": "generate reads it: which script is written",
        "launch.start": _BY_LAUNCHER,
        "launch.rendezvous_port": "generate reads it: the scripts' port",
        "launch.hostfile": "generate reads it: the launcher's hostfile",
        "name": "names the folder of TensorBoard's files",
        "layout.overlap": "tp: validate notes that DeepSpeed does not overlap it",
        "layout.sequence_parallel": "this base has tp 1, where the rules refuse it",
    },
}
"""Keys that change nothing of a rank's command, by engine, each with who reads it instead."""


def irrelevant(engine: str) -> dict[str, str]:
    return IRRELEVANT["megatron-lm" if engine.startswith("megatron-lm") else engine]


_engine = cache(api.engine_named)


@cache
def _bundle(text: str) -> EngineBundle:
    run = run_of(json.loads(text))
    engine = _engine(run.spec.engine.name)
    capabilities = engine.capabilities()
    problems = api.problems(run, layout=run.layout, capabilities=capabilities)
    if problems:
        raise InvalidFile(file="run.yaml", problems=problems)
    return engine.render(api.plan(run, capabilities=capabilities, keep=1).plans[0])


def bundle_of(document: dict[str, Any], engine: dict[str, Any]) -> EngineBundle:
    document = {**document, "engine": {**engine, **document["engine"]}}
    if engine is SCRIPTED:
        document = scripted(document)
    return _bundle(json.dumps(document))


def is_the_scripts(sample: Sample) -> bool:
    """Return whether a key describes the model or a corpus, which DeepSpeed's script makes."""
    return sample.key.startswith(("model.", "data.corpus.")) or any(
        "model." in key for key in sample.given
    )


def scripted(document: dict[str, Any]) -> dict[str, Any]:
    """Return the run file without what DeepSpeed refuses of the base: tp, and whole sections."""
    usual = {key: document.get(key) == BASE[key] for key in ("data", "checkpoint")}
    kept = {key: value for key, value in document.items() if not usual.get(key, False)}
    own = {"tp": 1, "sequence_parallel": False}
    layout = {
        k: own[k] if k in own and v == BASE["layout"][k] else v for k, v in kept["layout"].items()
    }
    return {**kept, "layout": layout}


def fate(sample: Sample, engine: dict[str, Any]) -> str:
    """Return what becomes of a key: rendered, unsaid, irrelevant, or who refuses it."""
    try:
        before = bundle_of(sample.before, engine)
    except (InvalidFile, EngineRefused) as error:
        # What the key needs is refused already, by the name of that.
        return refused_by_name(error, *sample.given)
    try:
        after = bundle_of(sample.after, engine)
    except (InvalidFile, EngineRefused) as error:
        return refused_by_name(error, sample.key)
    if any(sample.key == o.key or sample.key.startswith(f"{o.key}.") for o in after.unsaid):
        return "unsaid"
    return "irrelevant" if before == after else "rendered"


def refused_by_name(error: Exception, *names: str) -> str:
    """Return "refused" where a key, its section or its last word is in the message."""
    words = (word for name in names for word in (name.rpartition(".")[0], name.rpartition(".")[2]))
    named = any(word in str(error) for word in words if word)
    return "refused" if named else f"refused without its name: {error}"


@pytest.mark.parametrize("engine", [name for name, _ in ENGINES])
def test_every_key_is_rendered_refused_by_name_or_left_to_somebody(engine):
    spec = dict(ENGINES)[engine]
    known = irrelevant(engine)

    samples = [one for one in SAMPLES if not (spec is SCRIPTED and is_the_scripts(one))]
    fates = {sample.key: fate(sample, spec) for sample in samples}

    unnamed = {key: found for key, found in fates.items() if found.startswith("refused without")}
    assert not unnamed
    dropped = [key for key, found in fates.items() if found == "irrelevant" and key not in known]
    assert not dropped, f"{engine} drops {dropped}: render them, or refuse them by name"
    stale = [key for key in known if fates[key] != "irrelevant"]
    assert not stale, f"{engine} reads {stale} after all: take them out of IRRELEVANT"


def test_every_key_of_the_schema_has_a_sample():
    sampled = {sample.key for sample in SAMPLES}

    missing = {*keys()} - sampled - ABOUT - ONE_VALUE
    assert not missing, f"add a value of {sorted(missing)} to tests/unit/run_file_keys.py"
    assert not (sampled | ABOUT | ONE_VALUE) - {*keys()}
