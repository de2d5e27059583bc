"""Why a layout is as it is, key by key: arithmetic that a reader can redo, no modelled times."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from orchestrator.records.layout import Layout
from orchestrator.records.plan import Plan
from orchestrator.records.run import ResolvedRun, padded_vocab_size
from orchestrator.schedules.closed_forms import bubble_fraction
from orchestrator.specs.choices import RecomputeGranularity

GPU_HOURS_PER_FAILURE = 50_677
"""One unexpected interruption in so many GPU-hours: 419 in 54 days on 16,384 H100.

Source: Llama 3 (arXiv:2407.21783), section 3.3.4.
"""

CPU = "cpu"


def reasons_of(plan: Plan) -> dict[str, tuple[str, ...]]:
    """Return a comment for each key of the run file that was decided or follows."""
    run, layout = plan.run, plan.layout
    found = {
        "cluster": _cluster(run, layout),
        "training.global_batch_size": _batch(run, layout),
        "checkpoint": _checkpoint(run),
    }
    found.update({f"layout.{key}": reason(run, layout) for key, reason in _REASONS.items()})
    return {key: (text,) for key, text in found.items() if text}


def _cluster(run: ResolvedRun, layout: Layout) -> str:
    degrees = [(name, getattr(layout, name)) for name in ("tp", "cp", "pp", "dp")]
    product = " x ".join(f"{name} {degree}" for name, degree in degrees if degree > 1) or "one rank"
    return f"{run.machine.world_size:,} ranks = {product}; dp is never written, it follows"


def _batch(run: ResolvedRun, layout: Layout) -> str:
    count = layout.num_microbatches(run.training.global_batch_size)
    words = f"{count} microbatch{'es' if count > 1 else ''} of {layout.micro_batch_size}"
    return f"{run.tokens_per_step:,} tokens a step: {words} on each of dp {layout.dp}"


def _checkpoint(run: ResolvedRun) -> str:
    if run.machine.accelerator.architecture == CPU:
        return ""
    hours = GPU_HOURS_PER_FAILURE / run.machine.world_size
    between = f"{hours / 24:,.0f} days" if hours > 48 else f"{hours:.1f} hours"  # noqa: PLR2004
    return f"something fails every {between} at Llama 3's rate; half an interval is lost each time"


def _tp(run: ResolvedRun, layout: Layout) -> str:
    if layout.tp == 1:
        return "no layer is cut"
    domain = run.machine.cluster.scale_up_domain_gpus
    where = "inside" if layout.tp <= domain else "BEYOND"
    vocab = padded_vocab_size(run.model, run.training, tp=layout.tp)
    return (
        f"each layer is cut {layout.tp} ways, {where} the {domain} GPUs that fast links join; "
        f"vocabulary padded to {vocab:,}"
    )


def _pp(run: ResolvedRun, layout: Layout) -> str:
    if layout.pp == 1:
        return "every rank holds all layers: no bubble"
    count = layout.num_microbatches(run.training.global_batch_size)
    idle = bubble_fraction(layout.schedule, pp=layout.pp, vpp=layout.vpp, num_microbatches=count)
    each = run.model.num_layers / layout.pp
    return f"about {each:.3g} of {run.model.num_layers} layers a rank; ranks idle {idle:.1%}"


def _vpp(run: ResolvedRun, layout: Layout) -> str:
    count = layout.num_microbatches(run.training.global_batch_size)
    plain = bubble_fraction(layout.schedule, pp=layout.pp, vpp=1, num_microbatches=count)
    return f"chunks of a rank's layers take turns: with one chunk ranks would idle {plain:.1%}"


def _cp(run: ResolvedRun, layout: Layout) -> str:
    length = run.training.sequence_length
    return (
        f"a rank keeps {length // layout.cp:,} of {length:,} tokens: two chunks of "
        f"{length // (2 * layout.cp):,}, one early and one late"
    )


def _ep(run: ResolvedRun, layout: Layout) -> str:
    if run.model.moe is None:
        return ""
    experts = run.model.moe.num_experts
    return f"{experts // layout.ep} of {experts} experts a layer on a rank"


def _etp(run: ResolvedRun, layout: Layout) -> str:
    if run.model.moe is None:
        return ""
    return f"each expert is cut {layout.etp} ways" if layout.etp > 1 else "experts are not cut"


def _zero(_: ResolvedRun, layout: Layout) -> str:
    what = {
        0: "every replica keeps all optimizer states",
        1: "optimizer states are shared",
        2: "optimizer states and gradients are shared",
        3: "parameters, gradients and optimizer states are shared",
    }[layout.zero_stage]
    return what if layout.zero_stage == 0 else f"{what} by {layout.zero_domain} ranks"


def _recompute(_: ResolvedRun, layout: Layout) -> str:
    recompute = layout.recompute
    if recompute.granularity is RecomputeGranularity.SELECTIVE:
        return "these are computed again in the backward pass rather than kept"
    if recompute.layers is None:
        return "a third more computation; of each layer its input alone is kept"
    return f"{recompute.layers} of each stage's layers are computed again, the others kept"


def _stages(run: ResolvedRun, layout: Layout) -> str:
    return (
        f"{run.model.num_layers} layers on {layout.num_stages} stages; embedding and loss take "
        "the place of layers"
    )


_REASONS: Mapping[str, Callable[[ResolvedRun, Layout], str]] = MappingProxyType(
    {
        "tp": _tp,
        "pp": _pp,
        "vpp": _vpp,
        "cp": _cp,
        "ep": _ep,
        "etp": _etp,
        "zero_stage": _zero,
        "recompute": _recompute,
        "stage_layout": _stages,
        "sequence_parallel": lambda *_: "between the cuts, tokens are cut instead of repeated",
        "overlap": lambda *_: "communication of these axes hides behind computation",
    }
)
