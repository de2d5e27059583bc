"""The `deepspeed` engine: a JSON for `deepspeed.initialize`, and what starts a script that does."""

import json
from typing import Any, get_args

from orchestrator.engines.deepspeed.config_rows import (
    BATCH,
    CHECKPOINT,
    LOGS,
    OPTIMIZER,
    PIPELINE,
    PRECISION,
    RECOMPUTE,
    SCHEDULE,
)
from orchestrator.engines.deepspeed.keys import RELEASES
from orchestrator.engines.deepspeed.own_keys import cross_problems, own_problems
from orchestrator.engines.deepspeed.refusals import reasons
from orchestrator.engines.deepspeed.row import (
    Job,
    Section,
    Setting,
    document_of,
    joined,
    settings_of,
)
from orchestrator.engines.deepspeed.zero_rows import OFFLOAD, SHARDED, WEIGHTS, ZERO
from orchestrator.engines.environment import Variable, common_variables_of, interface_of
from orchestrator.engines.unsaid import LAUNCHED, unsaid_of
from orchestrator.errors import EngineRefused, UnknownName
from orchestrator.records.bundle import BundleFile, EngineBundle, Reason
from orchestrator.records.engine import EngineCapabilities, EngineFamily
from orchestrator.records.plan import Plan
from orchestrator.specs.choices import (
    CpCommType,
    Offload,
    OverlapAxis,
    Precision,
    RecomputeGranularity,
    ScheduleKind,
)
from orchestrator.specs.model import SPECIAL_FIELDS, Activation

NAME = "deepspeed"
NEWEST = RELEASES[-1]
PYTHON = "python3"
CONFIG_FILE = "engine/deepspeed.json"
ENVIRONMENT_FILE = "engine/deepspeed_env"

_UNSAFE = frozenset('\n\r"`$\\')
"""What DeepSpeed's launcher does not quote in the value of a variable."""

CAPABILITIES = EngineCapabilities(
    name=NAME,
    version=NEWEST,
    family=EngineFamily.DEEPSPEED,
    versions=RELEASES,
    zero_stages=(0, 1, 2, 3),
    pipeline_zero_stages=(0, 1),
    schedules=(ScheduleKind.NO_PIPELINE, ScheduleKind.ONE_F_ONE_B),
    recompute=(RecomputeGranularity.FULL,),
    precisions=(Precision.FP32, Precision.BF16, Precision.FP16),
    axes=("pp", "cp", "zero_replicas"),
    model_features=(*SPECIAL_FIELDS, "rotary_percent"),
    activations=get_args(Activation),
    overlaps=(OverlapAxis.DP,),
    fields=("script", "arguments", "config"),
    numerics=("gradients",),
    context_exchange=CpCommType.ALL_TO_ALL,
    offloads=tuple(Offload),
    reports=False,
)

_SCRIPTS = "the script's; give it by engine.arguments"
UNSAID = {
    **{key: why for key, why in LAUNCHED.items() if key != "launch.hostfile"},
    "model": "the script builds it; memory is counted, and buckets are made, for this card",
    "training.sequence_length": _SCRIPTS,
    "training.seed": _SCRIPTS,
    "training.vocab_padding_multiple": _SCRIPTS,
}
"""What the JSON does not say of a run file, and why that is no loss."""

SECTIONS: tuple[Section, ...] = (
    *(BATCH, PRECISION, OPTIMIZER, SCHEDULE, ZERO, SHARDED, WEIGHTS, OFFLOAD),
    *(RECOMPUTE, PIPELINE, CHECKPOINT, LOGS),
)


class DeepSpeedEngine:
    """Renders DeepSpeed's JSON, its environment file and the command of a script."""

    def capabilities(self) -> EngineCapabilities:
        """Return what the newest release runs; `render` refuses what an older one lacks."""
        return CAPABILITIES

    def render(self, plan: Plan) -> EngineBundle:
        """Return the bundle of a plan; ranks differ by environment alone.

        Raises:
            UnknownName: no table exists for `engine.version`.
            EngineRefused: the release cannot say something of the run file, or would not take, or
                would ignore, a key of `engine.config`; everything found is told.
        """
        job = Job(plan=plan, version=release_of(plan))
        if plan.run.spec.engine.script is None:
            raise EngineRefused(
                engine=NAME,
                reason="engine.script is absent: which script calls deepspeed.initialize; llmorch "
                "has no DeepSpeed worker of its own yet",
                instead=f"engine: {{name: {NAME}, version: {NEWEST}, script: /opt/train.py}}",
            )
        settings, problems = drafted(job)
        if problems:
            raise EngineRefused(engine=f"{NAME} {job.version}", reason="\n".join(problems))
        return _bundle(job, settings)


def release_of(plan: Plan) -> str:
    """Return the release a plan is rendered for, the newest where none is named.

    Raises:
        UnknownName: there is no table for it.
    """
    version = plan.run.spec.engine.version
    if version is None:
        return NEWEST
    if version not in RELEASES:
        raise UnknownName(kind=f"release of {NAME}", name=version, known=RELEASES)
    return version


def drafted(job: Job) -> tuple[tuple[Setting, ...], tuple[str, ...]]:
    """Return the keys of a job's JSON, and every reason why it must not be written."""
    settings, twice = joined(settings_of(job, SECTIONS), job.own)
    problems = (*reasons(job), *own_problems(job))
    if not problems:
        problems = cross_problems(document_of(settings), job)
    return settings, tuple(dict.fromkeys((*problems, *twice)))


def config_text(document: dict[str, Any]) -> str:
    """Return the JSON's text."""
    return json.dumps(document, indent=2) + "\n"


def environment_text(variables: tuple[Variable, ...]) -> str:
    """Return a `.deepspeed_env`: a variable a line and nothing else.

    DeepSpeed's launcher splits each line at its first `=`: a blank line or a comment ends it with
    a ValueError. Left to itself it forwards MLFLOW*, PYTHON*, MV2*, UCX* and NCCL* alone.
    """
    for variable in variables:
        strange = sorted(set(variable.value) & _UNSAFE)
        if strange:
            raise EngineRefused(
                engine=NAME,
                reason=f"{variable.name}={variable.value}: DeepSpeed's launcher would hand "
                f"{' '.join(map(repr, strange))} to a shell on each host",
            )
    return "".join(f"{variable.name}={variable.value}\n" for variable in variables)


def _bundle(job: Job, settings: tuple[Setting, ...]) -> EngineBundle:
    plan, spec = job.plan, job.plan.run.spec.engine
    variables = (*common_variables_of(plan), *interface_of(plan))
    return EngineBundle(
        engine=f"{NAME}@{job.version}",
        argv=(
            *(PYTHON, str(spec.script)),
            *("--deepspeed", "--deepspeed_config", f"{{bundle}}/{CONFIG_FILE}"),
            *spec.arguments,
        ),
        env=tuple((variable.name, variable.value) for variable in variables),
        files=(
            BundleFile(path=CONFIG_FILE, text=config_text(document_of(settings))),
            BundleFile(path=ENVIRONMENT_FILE, text=environment_text(variables)),
        ),
        world_size=plan.layout.world_size,
        last_step=plan.run.steps,
        reasons=(
            *(Reason(part=v.name, section="Environment", why=v.why) for v in variables),
            *(Reason(part=s.key, section=s.section, why=s.why) for s in settings),
        ),
        unsaid=unsaid_of(plan.run.spec, UNSAID),
    )


ENGINE = DeepSpeedEngine()
