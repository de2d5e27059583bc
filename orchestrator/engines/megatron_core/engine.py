"""What our Megatron-Core worker runs, and what starts a rank of it."""

import json
from types import MappingProxyType

from orchestrator.engines.environment import Variable, variables_of
from orchestrator.engines.megatron_core.arguments import MODEL_FEATURES, OVERLAPS, arguments_of
from orchestrator.errors import EngineRefused
from orchestrator.records.bundle import BundleFile, EngineBundle, Reason
from orchestrator.records.engine import EngineCapabilities
from orchestrator.records.plan import Plan
from orchestrator.specs.choices import (
    Precision,
    RecomputeGranularity,
    ScheduleKind,
)

NAME = "megatron-core"
WORKER = "llmorch-megatron-core-worker"
FORK_SERVER = "llmorch-forkserver"
WARM_UP = "launch.workers.megatron_core.warm:warm_up"
DATA_WORKER = "llmorch-data-worker"
ARGUMENTS_FILE = "engine/megatron_core.json"

CORPORA = MappingProxyType({"python-stdlib": "stdlib"})
"""What the data worker calls the run file's corpora."""

CAPABILITIES = EngineCapabilities(
    name=NAME,
    version="0.16.1",
    zero_stages=(0, 1),
    pipeline_zero_stages=(0, 1),
    schedules=(ScheduleKind.NO_PIPELINE, ScheduleKind.ONE_F_ONE_B, ScheduleKind.INTERLEAVED),
    recompute=(RecomputeGranularity.SELECTIVE, RecomputeGranularity.FULL),
    precisions=(Precision.FP32, Precision.BF16, Precision.FP8),
    axes=("tp", "pp", "cp", "ep", "etp", "vpp"),
    model_features=MODEL_FEATURES,
    activations=("gelu", "silu"),
    overlaps=OVERLAPS,
)


class MegatronCoreEngine:
    """Renders the argument file of `launch/workers/megatron_core` and the command around it."""

    def capabilities(self) -> EngineCapabilities:
        """Return what the worker runs today."""
        return CAPABILITIES

    def render(self, plan: Plan) -> EngineBundle:
        """Return the bundle of a plan; ranks differ by environment alone.

        Raises:
            EngineRefused: the run file has no data or no checkpoint section.
        """
        spec = plan.run.spec
        if spec.data is None or spec.checkpoint is None:
            absent = "data" if spec.data is None else "checkpoint"
            raise EngineRefused(
                engine=NAME,
                reason=f"the run file has no '{absent}' section",
                instead="see parallel_configs/tiny-gpt.local-x4.yaml for one that has",
            )
        variables = _variables(plan)
        text = json.dumps(arguments_of(plan), indent=2) + "\n"
        prepare: tuple[tuple[str, ...], ...] = ()
        if spec.data.corpus is not None:
            limit = str(spec.data.corpus.limit_bytes)
            command = (f"{{bin}}/{DATA_WORKER}", "--prefix", spec.data.sources()[0].prefix)
            source = ("--source", CORPORA[spec.data.corpus.source], "--limit-bytes", limit)
            prepare = ((*command, *source),)
        return EngineBundle(
            engine=f"{NAME}@{CAPABILITIES.version}",
            prepare=prepare,
            argv=(f"{{bin}}/{WORKER}", "--config", f"{{bundle}}/{ARGUMENTS_FILE}"),
            warm=(f"{{bin}}/{FORK_SERVER}", "--warm", WARM_UP),
            env=tuple((variable.name, variable.value) for variable in variables),
            files=(BundleFile(path=ARGUMENTS_FILE, text=text),),
            world_size=plan.layout.world_size,
            last_step=plan.run.steps,
            reasons=tuple(Reason(part=v.name, section="Environment", why=v.why) for v in variables),
        )


def _variables(plan: Plan) -> tuple[Variable, ...]:
    """Return the ranks' variables; on CPUs Megatron asserts one queue as it does before Blackwell.

    Else kernels overtake the communication that they hide.
    """
    on_cpu = plan.run.machine.accelerator.architecture == "cpu"
    if not on_cpu or (plan.layout.tp == 1 and plan.layout.cp == 1):
        return variables_of(plan)
    why = "Megatron asserts 1 with tp or cp, on a CPU too"
    one_queue = Variable(name="CUDA_DEVICE_MAX_CONNECTIONS", value="1", why=why)
    return (*variables_of(plan), one_queue)


ENGINE = MegatronCoreEngine()
