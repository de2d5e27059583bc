"""What `pretrain_gpt.py` is told of number formats, kernels and fusions."""

from orchestrator.engines.megatron_lm.row import Job, Row, Section
from orchestrator.specs.choices import Fp8Recipe, Precision
from orchestrator.specs.cluster import AcceleratorCard

DELAYED_HISTORY = 1024
"""Steps of maxima that delayed scaling looks back on; Megatron's default is 1 (NVIDIA: 1024)."""


_SCALED_BY_BLOCK = (Fp8Recipe.BLOCKWISE, Fp8Recipe.MXFP8)


def _is_fp8(job: Job) -> bool:
    return job.training.precision is Precision.FP8


PRECISION = Section(
    title="Precision",
    rows=(
        Row(
            flag="--bf16",
            value=lambda j: j.training.precision is not Precision.FP32,
            why="weights, activations and sends in BF16; without it they are FP32",
        ),
        Row(
            flag="--transformer-impl",
            value=lambda _: "transformer_engine",
            why="the layers of Transformer Engine; FP8 exists only there",
        ),
        Row(
            flag="--attention-backend",
            value=lambda _: "auto",
            why="Transformer Engine chooses flash or fused attention by shape",
        ),
        Row(
            flag="--cross-entropy-loss-fusion",
            value=lambda _: True,
            why="the loss in one kernel, without a second copy of the logits",
        ),
        Row(
            flag="--cross-entropy-fusion-impl",
            value=lambda _: "native",
            why="te is refused from 0.18 on",
        ),
    ),
)


def recipe(job: Job) -> Fp8Recipe | None:
    """Return how FP8 scales are chosen, None where nothing is FP8."""
    if not _is_fp8(job):
        return None
    return job.training.fp8_recipe or _by_accelerator(job.plan.run.machine.accelerator)


def _by_accelerator(card: AcceleratorCard) -> Fp8Recipe:
    """MXFP8 is Blackwell's own; before it, one scale a tensor needs no history of maxima."""
    blackwell = card.architecture.startswith("blackwell")
    return Fp8Recipe.MXFP8 if blackwell else Fp8Recipe.TENSORWISE


def _is_delayed(job: Job) -> bool:
    return recipe(job) is Fp8Recipe.DELAYED


FP8 = Section(
    title="FP8",
    applies=_is_fp8,
    rows=(
        Row(
            flag="--fp8-format",
            value=lambda j: "e4m3" if recipe(j) in _SCALED_BY_BLOCK else "hybrid",
            why="hybrid: E4M3 forward, E5M2 for gradients; blocks have range enough in E4M3",
        ),
        Row(flag="--fp8-recipe", value=recipe, why="how scales are chosen"),
        Row(
            flag="--fp8-amax-history-len",
            value=lambda j: DELAYED_HISTORY if _is_delayed(j) else None,
            why="steps of maxima a scale looks back on; the default is 1",
        ),
        Row(
            flag="--fp8-amax-compute-algo",
            value=lambda j: "max" if _is_delayed(j) else None,
            why="the largest of them, not the newest",
        ),
        Row(
            flag="--first-last-layers-bf16",
            value=lambda j: recipe(j) is Fp8Recipe.TENSORWISE,
            why="the outer layers stay in BF16; delayed scaling cannot",
        ),
    ),
)
