"""The user's own keys of `engine.config`: known to the release, and in no one else's way."""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from orchestrator.engines.deepspeed.keys import complaints
from orchestrator.engines.deepspeed.row import Job
from orchestrator.specs.choices import Offload, Precision

FIELDS: Mapping[str, str] = MappingProxyType(
    {
        "sequence_parallel_size": "layout.cp",
        "data_parallel_size": "layout: dp is what the world leaves",
        "tensor_parallel": "layout.tp",
        "expert_parallel": "layout.ep",
        "amp": "training.precision",
        "torch_autocast": "training.precision",
        "zero_optimization.cpu_offload": "layout.offload",
        "zero_optimization.cpu_offload_param": "layout.offload",
        "zero_optimization.mics_shard_size": "layout.zero_replicas",
        "optimizer.params.max_grad_norm": "training.optimizer.clip_grad",
        "data_types.grad_accum_dtype": "training.numerics.gradients",
        "scheduler.params": "training.optimizer",
    }
)
"""Keys that change the plan: the run file says them, so that the memory model knows."""

_BATCH = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps")
_WEIGHTS = 3
_SHARDS = (1, 2)

Rest = Mapping[str, Any]


def own_problems(job: Job) -> tuple[str, ...]:
    """Return what is wrong with the user's keys by themselves, each with its place."""
    own = job.own
    found = [*complaints(job.version, own), *_of_the_plan(job), *_triple(job)]
    return tuple(f"engine.config.{problem}" for problem in found)


def cross_problems(document: Rest, job: Job) -> tuple[str, ...]:
    """Return which keys of the whole JSON do not go together: what DeepSpeed would raise on."""
    return tuple(f"engine.config.{text}" for check in _CROSS for text in check(document, job))


def value_at(document: Rest, path: str) -> Any:  # noqa: ANN401  JSON
    """Return the value under a path with dots, None where there is none."""
    found: Any = document
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _of_the_plan(job: Job) -> Iterator[str]:
    for path, field in FIELDS.items():
        if path != "scheduler.params" and value_at(job.own, path) is not None:
            yield f"{path}: follows from the run file; change {field} instead"
    for name, left_out in (
        ("offload_optimizer", job.layout.offload is Offload.NONE),
        ("offload_param", job.layout.offload is not Offload.PARAMETERS),
    ):
        if left_out and value_at(job.own, f"zero_optimization.{name}") is not None:
            yield f"zero_optimization.{name}: give layout.offload, so that memory is counted"


def _triple(job: Job) -> Iterator[str]:
    """Yield what is wrong with the batch triple, with its numbers and how dp came about."""
    if not any(key in job.own for key in _BATCH):
        return
    layout, world = job.layout, job.layout.world_size
    ours = (
        job.training.global_batch_size,
        layout.micro_batch_size,
        layout.num_microbatches(job.training.global_batch_size),
    )
    batch, micro, passes = (
        job.own.get(key, usual) for key, usual in zip(_BATCH, ours, strict=True)
    )
    numbers = (batch, micro, passes)
    if numbers == ours or not all(isinstance(n, int) and not isinstance(n, bool) for n in numbers):
        return
    product = micro * passes * layout.dp
    axes = " / ".join(f"{a} {getattr(layout, a)}" for a in ("pp", "cp") if getattr(layout, a) > 1)
    how = f"{world} ranks / {axes}" if axes else f"all {world} ranks"
    if batch != product:
        yield (
            f"train_batch_size: {batch} is not micro {micro} x steps {passes} x dp {layout.dp} = "
            f"{product}; dp {layout.dp} is {how}"
        )
    if batch == micro * passes and layout.dp > 1:
        yield (
            f"train_batch_size: {batch} = {micro} x {passes} x 1 fits a world of 1, which is what "
            "DeepSpeed reads where it starts without a process group; started by run.sh, dp is "
            f"{layout.dp}"
        )


def _precision(document: Rest, _: Job) -> Iterator[str]:
    if value_at(document, "fp16.enabled") and value_at(document, "bf16.enabled"):
        yield "fp16.enabled: with bf16.enabled; DeepSpeed takes one of them"


def _narrow_states(document: Rest, job: Job) -> Iterator[str]:
    for path in (
        "bf16.bf16_master_weights_and_grads",
        "bf16.bf16_optimizer_states",
        "fp16.fp16_master_weights_and_grads",
    ):
        if value_at(document, path) and job.layout.zero_stage == 0:
            yield f"{path}: needs layout.zero_stage 1, 2 or 3, not 0"
    narrow = value_at(document, "bf16.bf16_optimizer_states")
    if narrow and not value_at(document, "bf16.bf16_master_weights_and_grads"):
        yield "bf16.bf16_optimizer_states: needs bf16.bf16_master_weights_and_grads"


def _reduction(document: Rest, job: Job) -> Iterator[str]:
    if document.get("gradient_allreduce_op") == "sum":
        others = {
            "layout.zero_stage 3": job.layout.zero_stage == _WEIGHTS,
            "zero_optimization.zenflow": value_at(document, "zero_optimization.zenflow"),
            "compile.deepcompile": value_at(document, "compile.deepcompile"),
        }
        for name, is_there in others.items():
            if is_there:
                yield f"gradient_allreduce_op: sum does not go with {name}"


def _norm(document: Rest, job: Job) -> Iterator[str]:
    if value_at(document, "zero_optimization.compute_grad_norm") is not False:
        return
    wide = value_at(document, "data_types.grad_accum_dtype") == "fp32"
    is_bf16 = job.training.precision is Precision.BF16 and job.layout.offload is Offload.NONE
    if job.layout.zero_stage not in _SHARDS:
        yield "zero_optimization.compute_grad_norm: false needs layout.zero_stage 1 or 2"
    elif job.layout.zero_stage == 1 and is_bf16 and wide:
        yield (
            "zero_optimization.compute_grad_norm: false does not go with zero_stage 1 in BF16 and "
            "gradients in FP32"
        )


def _stage_three(document: Rest, job: Job) -> Iterator[str]:
    if job.layout.zero_stage == _WEIGHTS:
        if value_at(document, "zero_optimization.elastic_checkpoint"):
            yield "zero_optimization.elastic_checkpoint: not with layout.zero_stage 3"
        return
    ratio = value_at(document, "zero_optimization.offload_optimizer.ratio")
    if isinstance(ratio, int | float) and ratio < 1:
        yield (f"zero_optimization.offload_optimizer.ratio: {ratio}; below 1 it needs zero_stage 3")


def _retired(document: Rest, _: Job) -> Iterator[str]:
    if value_at(document, "zero_optimization.legacy_stage1"):
        yield "zero_optimization.legacy_stage1: true is refused; it is gone"


_CROSS: tuple[Callable[[Rest, Job], Iterator[str]], ...] = (
    *(_precision, _narrow_states, _reduction),
    *(_norm, _stage_three, _retired),
)
