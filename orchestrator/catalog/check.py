"""What no honest card says: figures without a source, rates past any device of its kind.

The shape of a card is checked where it is read; this is what its shape cannot tell.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from orchestrator.errors import Problem
from orchestrator.specs.card import Card
from orchestrator.specs.choices import Precision
from orchestrator.specs.cluster import AcceleratorCard

_SLACK = 1.02
_DOUBTFUL = ("recalled", "assumed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """The most that any device of an architecture has, dense and in one direction."""

    bf16_tflops: float
    scale_up_gb_per_s: float
    memory_bandwidth_tb_per_s: float


CEILINGS: Mapping[str, Ceiling] = MappingProxyType(
    {
        "ampere": Ceiling(bf16_tflops=312, scale_up_gb_per_s=300, memory_bandwidth_tb_per_s=2.04),
        "hopper": Ceiling(bf16_tflops=989.4, scale_up_gb_per_s=450, memory_bandwidth_tb_per_s=4.8),
        "blackwell": Ceiling(
            bf16_tflops=2500, scale_up_gb_per_s=900, memory_bandwidth_tb_per_s=8.0
        ),
        "blackwell-ultra": Ceiling(
            bf16_tflops=2500, scale_up_gb_per_s=900, memory_bandwidth_tb_per_s=8.0
        ),
        "cdna3": Ceiling(bf16_tflops=1307.4, scale_up_gb_per_s=448, memory_bandwidth_tb_per_s=5.3),
    }
)
"""Best of each architecture by its data sheets, which print the sparse and both-way doubles."""


def source_problems(card: Card) -> tuple[Problem, ...]:
    """Return what a card leaves unsaid of where its figures come from."""
    return tuple(_source_problems(card))


def figure_problems(card: AcceleratorCard) -> tuple[Problem, ...]:
    """Return the figures of an accelerator that no device of its architecture has."""
    ceiling = CEILINGS.get(card.architecture)
    if ceiling is None:
        return ()
    bf16 = card.dense_tflops.get(Precision.BF16, 0)
    figures = (
        ("dense_tflops.bf16", bf16, ceiling.bf16_tflops, "a rate with 2:4 sparsity? halve it"),
        (
            "scale_up_gb_per_s",
            card.scale_up_gb_per_s,
            ceiling.scale_up_gb_per_s,
            "both directions together, or bits for bytes? halve it, or divide it by 8",
        ),
        (
            "memory_bandwidth_tb_per_s",
            card.memory_bandwidth_tb_per_s,
            ceiling.memory_bandwidth_tb_per_s,
            "bits for bytes? divide it by 8",
        ),
    )
    return tuple(
        Problem(
            key=key,
            message=f"{value:g} is more than any {card.architecture} device has: {most:g}",
            possible=hint,
            rule="card-figures",
        )
        for key, value, most, hint in figures
        if value > most * _SLACK
    )


def _source_problems(card: Card) -> Iterator[Problem]:
    if not card.source:
        yield Problem(key="source", message="is required and absent", rule="card-source")
    if card.retrieved is None:
        yield Problem(key="retrieved", message="is required and absent", rule="card-source")
    doubtful = [text for text in card.source if any(word in text for word in _DOUBTFUL)]
    if doubtful and not card.unverified:
        yield Problem(
            key="unverified",
            message=f"names nothing, though a source is '{doubtful[0]}'",
            possible="list the fields that nobody read in a source",
            rule="card-source",
        )
