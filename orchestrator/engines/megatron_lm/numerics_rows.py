"""What `pretrain_gpt.py` is told of the formats of gradients and of the optimizer's states.

Each format narrower than FP32 needs the precision-aware optimizer, which is Transformer Engine's
Adam; Megatron refuses the formats without it, so it is turned on exactly where one is asked for.
"""

from orchestrator.engines.megatron_lm.precision_rows import recipe
from orchestrator.engines.megatron_lm.row import Job, Row, Section, Value
from orchestrator.specs.choices import Fp8Recipe, Precision
from orchestrator.specs.numerics import NumericsSpec


def _numerics(job: Job) -> NumericsSpec:
    return job.training.numerics


def _reduces_in_bf16(job: Job) -> bool:
    return _numerics(job).gradients == "bf16"


def _accumulates_wide(job: Job) -> bool:
    narrow = job.training.precision is not Precision.FP32
    return narrow and not _reduces_in_bf16(job)


def _gathers_mxfp8(job: Job) -> bool:
    return _numerics(job).narrow_parameters and recipe(job) is Fp8Recipe.MXFP8


GRADIENTS = Section(
    title="Gradients",
    rows=(
        Row(
            flag="--accumulate-allreduce-grads-in-fp32",
            value=_accumulates_wide,
            why="BF16 loses small gradients in long sums; Megatron turns it on with a line of log",
        ),
        Row(
            flag="--grad-reduce-in-bf16",
            value=_reduces_in_bf16,
            why="half the bytes between replicas, and sums of BF16",
        ),
        Row(
            flag="--fp8-param-gather",
            value=lambda j: _numerics(j).narrow_parameters,
            why="weights are kept and gathered in 8 bits",
        ),
        Row(
            flag="--reuse-grad-buf-for-mxfp8-param-ag",
            value=lambda j: _gathers_mxfp8(j) and not j.fsdp,
            why="MXFP8 weights are gathered through the gradients' buffer, or not at all",
        ),
    ),
)


def _state(flag: str, name: str, why: str) -> Row:
    def value(job: Job) -> Value:
        found: str = getattr(_numerics(job), name)
        return found

    return Row(flag=flag, value=value, why=why)


STATES = Section(
    title="Optimizer states",
    applies=lambda j: _numerics(j).is_precision_aware,
    rows=(
        Row(
            flag="--use-precision-aware-optimizer",
            value=lambda _: True,
            why="Transformer Engine's Adam, which alone keeps states narrower than FP32",
        ),
        _state("--main-grads-dtype", "optimizer_gradients", "gradients as the optimizer reads"),
        _state("--main-params-dtype", "master_parameters", "master weights"),
        _state("--exp-avg-dtype", "first_moment", "Adam's first moment"),
        _state("--exp-avg-sq-dtype", "second_moment", "Adam's second moment"),
    ),
)
