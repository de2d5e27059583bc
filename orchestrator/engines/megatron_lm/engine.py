"""The `megatron-lm` engine: `pretrain_gpt.py` of a named release, from the user's checkout."""

from dataclasses import replace

from orchestrator.engines.environment import interface_of, variables_of
from orchestrator.engines.megatron_lm.extra import extra_arguments, joined
from orchestrator.engines.megatron_lm.flags import RELEASES, complaint
from orchestrator.engines.megatron_lm.hook_rows import ft_launcher
from orchestrator.engines.megatron_lm.refusals import reasons
from orchestrator.engines.megatron_lm.releases import NEWEST, TABLES
from orchestrator.engines.megatron_lm.row import Argument, Job, arguments_of
from orchestrator.engines.unsaid import LAUNCHED, unsaid_of
from orchestrator.errors import EngineRefused, UnknownName
from orchestrator.records.bundle import EngineBundle, Reason
from orchestrator.records.engine import MEGATRON_FAMILY, EngineCapabilities
from orchestrator.records.plan import Plan

NAME = "megatron-lm"
PYTHON = "python3"
SCRIPT = "pretrain_gpt.py"

UNKNOWN_TO_SCRIPT = frozenset(
    {
        *("post_norms", "parallel_attention", "rotary_base_local"),
        *("attention_logit_softcap", "final_logit_softcap"),
    }
)
"""What no option of `pretrain_gpt.py` says (Gemma 2 and 3, Falcon, Grok)."""

UNSAID = {
    **LAUNCHED,
    "checkpoint.keep": "pretrain_gpt.py deletes no checkpoint; remove old ones yourself",
    "data.end_of_document": "read where documents are masked from one another, which nobody asks",
}
"""What `pretrain_gpt.py` is not told of a run file, and why that is no loss."""

CAPABILITIES = replace(
    MEGATRON_FAMILY,
    name=NAME,
    version=NEWEST,
    versions=RELEASES,
    zero_stages=(0, 1, 2, 3),
    reports=False,
    model_features=tuple(
        name for name in MEGATRON_FAMILY.model_features if name not in UNKNOWN_TO_SCRIPT
    ),
)


class MegatronLmEngine:
    """Renders the argument list of `pretrain_gpt.py` and the variables around it."""

    def capabilities(self) -> EngineCapabilities:
        """Return what the newest release runs; `render` refuses what an older one lacks."""
        return CAPABILITIES

    def render(self, plan: Plan) -> EngineBundle:
        """Return the bundle of a plan; ranks differ by environment alone.

        Raises:
            UnknownName: no table exists for `engine.version`.
            EngineRefused: the release cannot say something of the run file, or lacks an option
                of `engine.arguments`.
        """
        spec = plan.run.spec.engine
        release = release_of(plan)
        job = Job(plan=plan)
        refused = reasons(job, release)
        if refused:
            raise EngineRefused(engine=f"{NAME} {release}", reason="\n".join(refused))
        if spec.checkout is None:
            raise EngineRefused(
                engine=NAME,
                reason="engine.checkout is absent: which folder holds pretrain_gpt.py",
                instead=f"engine: {{name: {NAME}, version: {release}, checkout: /opt/megatron-lm}}",
            )
        own = extra_arguments(spec.arguments, release)
        arguments = joined(arguments_of(job, TABLES[release]), own, release=release)
        for argument in arguments:
            problem = complaint(release, argument.flag, argument.words)
            assert problem is None, problem  # noqa: S101  our table against the parser's
        return _bundle(job, release, arguments)


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


def _bundle(job: Job, release: str, arguments: tuple[Argument, ...]) -> EngineBundle:
    plan, spec = job.plan, job.plan.run.spec
    words = [word for argument in arguments for word in (argument.flag, *argument.words)]
    variables = (*variables_of(plan), *interface_of(plan))
    return EngineBundle(
        engine=f"{NAME}@{release}",
        argv=(PYTHON, f"{spec.engine.checkout}/{SCRIPT}", *words),
        env=tuple((variable.name, variable.value) for variable in variables),
        files=(),
        world_size=plan.layout.world_size,
        last_step=plan.run.steps,
        reasons=(
            *(Reason(part=v.name, section="Environment", why=v.why) for v in variables),
            *(Reason(part=a.flag, section=a.section, why=a.why) for a in arguments),
        ),
        torchrun=ft_launcher(job) if spec.engine.hooks.fault_tolerance else ("torchrun",),
        unsaid=unsaid_of(spec, UNSAID),
    )


ENGINE = MegatronLmEngine()
