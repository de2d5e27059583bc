"""What a release cannot say, by name: nothing of a run file is dropped in silence."""

from collections.abc import Callable, Iterator, Mapping

from orchestrator.engines.megatron_lm.position_rows import (
    LLAMA3_FIXED,
    SCALING_KEYS,
    YARN_FIXED,
    scaling,
    scaling_type,
)
from orchestrator.engines.megatron_lm.row import Job
from orchestrator.engines.megatron_lm.training_rows import even_increments, has_ramp

YARN_WITHOUT_LATENT_SINCE = "0.19.2"
SCHEDULES_SINCE = ("0.18.2", "0.19.2")


def reasons(job: Job, release: str) -> tuple[str, ...]:
    """Return why a release cannot run a job, each with the field it is about."""
    return tuple(reason for check in _CHECKS for reason in check(job, release))


def _activation(job: Job, _: str) -> Iterator[str]:
    model = job.model
    gated = {"silu", "quick_gelu"} if model.gated_mlp else {"gelu", "gelu_tanh", "squared_relu"}
    if model.activation not in gated:
        kind = "gated" if model.gated_mlp else "plain"
        yield (
            f"model.activation: pretrain_gpt.py has no {kind} MLP with {model.activation}; "
            f"possible: {', '.join(sorted(gated))}"
        )


def _rotary_scaling(job: Job, release: str) -> Iterator[str]:
    kind = scaling_type(job)
    if kind is None:
        return
    if kind not in SCALING_KEYS:
        yield f"model.rope_scaling.type: {kind}; pretrain_gpt.py knows {', '.join(SCALING_KEYS)}"
        return
    for name in job.model.rope_scaling or {}:
        if name not in SCALING_KEYS[kind]:
            yield f"model.rope_scaling.{name}: pretrain_gpt.py has no option for it with {kind}"
    if kind == "yarn" and job.model.mla is None:
        if release != YARN_WITHOUT_LATENT_SINCE:
            yield f"model.rope_scaling: yarn without latent attention needs 0.19, not {release}"
        return
    yield from _constants(job, LLAMA3_FIXED if kind == "llama3" else YARN_FIXED)


def _constants(job: Job, fixed_numbers: Mapping[str, float]) -> Iterator[str]:
    for name, fixed in fixed_numbers.items():
        if scaling(job, name) not in {None, fixed}:
            yield (
                f"model.rope_scaling.{name}: {scaling(job, name)}; Megatron has {fixed:g} as a "
                "constant"
            )


def _window(job: Job, _: str) -> Iterator[str]:
    window = job.model.window
    if window is not None and window.kind == "chunked":
        yield "model.window.kind: chunked; pretrain_gpt.py knows sliding windows alone"


def _ramp(job: Job, release: str) -> Iterator[str]:
    if has_ramp(job) and release not in SCHEDULES_SINCE and even_increments(job) is None:
        yield (
            f"training.batch_ramp: {release} ramps in equal increments at equal distances alone; "
            f"any ramp works from {SCHEDULES_SINCE[0]} on"
        )


def _seed(job: Job, _: str) -> Iterator[str]:
    if job.training.seed == 0:
        yield "training.seed: 0; Megatron wants one above 0"
    data = job.plan.run.spec.data
    if data is not None and data.seed not in {None, job.training.seed}:
        yield "data.seed: pretrain_gpt.py orders samples by training.seed; give it, or neither"


def _corpus(job: Job, _: str) -> Iterator[str]:
    data = job.plan.run.spec.data
    if data is not None and data.corpus is not None:
        yield "data.corpus: made by the megatron-core engine alone; make the files beforehand"


def _fault_tolerance(job: Job, _: str) -> Iterator[str]:
    spec = job.plan.run.spec
    if not spec.engine.hooks.fault_tolerance:
        return
    if spec.checkpoint is None:
        yield (
            "engine.hooks.fault_tolerance: needs the section checkpoint, beside whose files it "
            "keeps its state"
        )
    if "--inprocess-restart" in spec.engine.arguments:
        yield (
            "engine.hooks.fault_tolerance: ft_launcher restarts ranks, and so does "
            "--inprocess-restart of engine.arguments; choose one"
        )


_CHECKS: tuple[Callable[[Job, str], Iterator[str]], ...] = (
    *(_activation, _rotary_scaling, _window),
    *(_ramp, _seed, _corpus, _fault_tolerance),
)
