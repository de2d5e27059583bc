"""What every launcher's request takes from a run file in the same way."""

from launch.request import BudgetTerms, HangTerms, RankTerms, Supervision
from orchestrator.errors import EngineRefused
from orchestrator.records.bundle import EngineBundle
from orchestrator.records.run import ResolvedRun
from orchestrator.specs.choices import Start
from orchestrator.specs.run import RunSpec

_KEPT_CHECKPOINTS = 3


def supervision_of(spec: RunSpec) -> Supervision:
    """When to try again and when to give up."""
    return Supervision(
        max_restarts=spec.supervise.max_restarts,
        keep_checkpoints=spec.checkpoint.keep if spec.checkpoint else _KEPT_CHECKPOINTS,
        join_timeout_s=spec.supervise.join_timeout_s,
        beat_interval_s=spec.supervise.beat_interval_s,
        lease_s=spec.supervise.lease_s,
        stop_grace_s=spec.supervise.stop_grace_s,
        hang=HangTerms(**spec.supervise.hang.model_dump()),
        budgets=BudgetTerms(**spec.supervise.budgets.model_dump()),
    )


def rank_terms_of(spec: RunSpec) -> RankTerms:
    """What a rank gets of its host."""
    logs = spec.launch.logs
    return RankTerms(
        binding=spec.launch.binding,
        log_folder=logs.folder,
        log_limit_bytes=logs.limit_bytes,
        log_keep=logs.keep,
    )


def warm_of(bundle: EngineBundle, run: ResolvedRun) -> tuple[str, ...]:
    """The fork server's command, or none: on GPUs ranks are forked only where the run asks for it.

    Raises:
        EngineRefused: the run asks for it, and the engine has no fork server.
    """
    chosen = run.spec.launch.start
    if chosen is Start.WARM and not bundle.warm:
        raise EngineRefused(
            engine=bundle.engine,
            reason="launch.start: warm, and this engine's ranks cannot be forked",
            instead="remove launch.start, or say cold",
        )
    is_default = chosen is None and run.machine.accelerator.architecture == "cpu"
    return bundle.warm if is_default or chosen is Start.WARM else ()
