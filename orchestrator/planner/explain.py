"""Why the best plan is best: what limits it, and what each other choice would cost."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from orchestrator.cost.quote import COMPUTE, LIMITS, MEMORY
from orchestrator.planner.words import recompute_words, words_of
from orchestrator.records.layout import Layout
from orchestrator.records.plan import CostParts, Plan
from orchestrator.units import TFLOP, gib, text_of_seconds

Priced = tuple[Layout, CostParts]

NAMES: Mapping[str, str] = MappingProxyType(
    {
        "matmul_s": "matrix products",
        "attention_s": "attention",
        "elementwise_s": "element-wise kernels",
        "logits_s": "logits",
        **LIMITS,
    }
)
"""Every part of a step, in words."""

CHOICES: Mapping[str, Callable[[Layout], str]] = MappingProxyType(
    {
        "tp": lambda layout: f"tp {layout.tp}",
        "pp": lambda layout: f"pp {layout.pp}",
        "vpp": lambda layout: f"vpp {layout.vpp}",
        "cp": lambda layout: f"cp {layout.cp}",
        "ep": lambda layout: f"ep {layout.ep}",
        "micro_batch_size": lambda layout: f"micro batch {layout.micro_batch_size}",
        "zero_stage": lambda layout: f"ZeRO {layout.zero_stage}",
        "recompute": lambda layout: recompute_words(layout.recompute),
    }
)
"""What is compared: the best layout with another value of each."""

REMEDIES: Mapping[str, str] = MappingProxyType(
    {
        COMPUTE: "only faster kernels, FP8 or more accelerators would change it",
        MEMORY: "more accelerators or recomputation would free memory for a faster layout",
        "recomputation": "more memory or more accelerators would do without it",
        "tp communication": "a smaller tp needs more memory or more pipeline stages",
        "cp communication": "a shorter sequence or faster links between hosts would change it",
        "ep communication": "fewer hosts in an expert group, or faster links between them",
        "pp communication": "fewer chunks or faster links between hosts would change it",
        "dp communication": "a larger global batch would spread it over more work",
        "pipeline bubble": "a larger global batch or fewer accelerators would change it",
        "uneven stages": "a stage layout that gives the ends fewer layers would change it",
        "optimizer": "a larger global batch would spread it over more work",
        "host overhead": "a larger micro batch or CUDA graphs would change it",
    }
)
"""What would change each limit."""

_SMALL_S_SHARE = 0.001
"""Changes of a part below this share of the step are not told."""


def explanation(best: Plan, ranked: Sequence[Priced]) -> tuple[str, ...]:
    """Return sentences on the best plan; `ranked` holds every layout that fits, best first."""
    return (_summary(best), _limit(best), *_alternatives(best, ranked))


def _summary(best: Plan) -> str:
    rate = best.model_flop_per_s_per_gpu / TFLOP
    have = gib(best.run.machine.memory_bytes)
    return (
        f"{words_of(best.layout)}: {text_of_seconds(best.step_time_s)} a step, "
        f"{rate:.3g} model TFLOP/s per accelerator (MFU {best.mfu:.1%}), "
        f"{gib(best.memory.total_bytes):.1f} of {have:.1f} GiB on the fullest rank"
    )


def _limit(best: Plan) -> str:
    limit = best.binding_limit
    parts = {words: float(getattr(best.cost, field)) for field, words in LIMITS.items()}
    if limit not in parts:
        return f"limited by {limit}: {REMEDIES[limit]}"
    return f"largest loss: {limit}, {parts[limit] / best.step_time_s:.1%} of it; {REMEDIES[limit]}"


def _alternatives(best: Plan, ranked: Sequence[Priced]) -> tuple[str, ...]:
    """Return what the fastest layout that chooses otherwise costs, for each choice.

    One layout may be that for several choices; it is told once.
    """
    choices_by_layout: dict[Layout, tuple[CostParts, list[str]]] = {}
    for name, value_of in CHOICES.items():
        chosen = value_of(best.layout)
        other = next((priced for priced in ranked if value_of(priced[0]) != chosen), None)
        if other is not None:
            layout, cost = other
            choices_by_layout.setdefault(layout, (cost, []))[1].append(name)
    return tuple(
        _compared(best, layout, cost, names=names)
        for layout, (cost, names) in choices_by_layout.items()
    )


def _compared(best: Plan, layout: Layout, cost: CostParts, *, names: Sequence[str]) -> str:
    slower = cost.total_s / best.step_time_s - 1
    values = " and ".join(CHOICES[name](layout) for name in names)
    chosen = " and ".join(CHOICES[name](best.layout) for name in names)
    return (
        f"{values} instead of {chosen} is {slower:.1%} slower at best ({words_of(layout)}): "
        f"{_differences(best, cost)}"
    )


def _differences(best: Plan, cost: CostParts) -> str:
    """Return the parts that change most, up to two that grow and one that shrinks."""
    changes = {
        words: float(getattr(cost, field)) - float(getattr(best.cost, field))
        for field, words in NAMES.items()
    }
    told = {
        words: by for words, by in changes.items() if abs(by) > _SMALL_S_SHARE * best.step_time_s
    }
    grown = sorted((item for item in told.items() if item[1] > 0), key=lambda item: -item[1])[:2]
    shrunk = sorted((item for item in told.items() if item[1] < 0), key=lambda item: item[1])[:1]
    words = [_change_words(what, by) for what, by in (*grown, *shrunk)]
    return ", ".join(words) or "every part is nearly the same"


def _change_words(what: str, by_s: float) -> str:
    return f"{what} {'+' if by_s > 0 else '-'}{text_of_seconds(abs(by_s))}"
