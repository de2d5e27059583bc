"""What stands on a model's page beside its fields: where its parameters and FLOPs are."""

from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.cost.census import flop_census, parameter_census
from orchestrator.cost.flops import BACKWARD_PER_FORWARD
from orchestrator.cost.parameters import active_parameters, mtp_parameters, total_parameters
from orchestrator.cost.shape import Shape, shape_of
from orchestrator.specs.model import ModelCard
from orchestrator.units import text_of_count

LEGEND = (
    "L layers, h hidden, f FFN width, a heads, g key-value heads, d head width, v vocabulary, "
    "E experts, k met by a token, e expert width, s sequence"
)

PARAMETER_WORDS = {
    "embedding": "v h",
    "positions": "learned, one of h for each of the longest context",
    "attention": "L (h (a + 2g) d + a d h), with biases and sinks",
    "mlp": "dense layers x (2 or 3 with a gate) h f, with biases",
    "experts": "MoE layers x E x (2 or 3 with a gate) h e, with biases",
    "shared_experts": "MoE layers x (2 or 3 with a gate) h x their width together",
    "router": "MoE layers x h E",
    "norms": "of layers, of queries and keys, and the last one",
    "output": "h v; none where the embedding serves",
}
LATENT_WORDS = "L x the products into and out of the latents, and out of the heads"

FLOP_WORDS = {
    "attention_projections": "2 x the elements of attention's matrices",
    "attention_core": "L x 2 x keys x a x (query width + value width); keys: s / 2, causal",
    "mlp": "2 x the elements of dense layers' matrices",
    "experts": "MoE layers x k x 2 x the elements of one expert",
    "shared_experts": "MoE layers x 2 x the elements of the shared ones",
    "router": "MoE layers x 2 h E",
    "logits": "2 h v",
    "mtp": "for each depth a layer, 2 x 2h h, and the logits again",
}
WINDOW_WORDS = "L x 2 x keys x a x 2 d; keys: s / 2, causal, fewer behind the window"


def computed_of(card: ModelCard) -> dict[str, Any]:
    """Return the numbers that follow from a model's fields, as JSON."""
    shape, sequence = shape_of(card), _sequence(card)
    forward = flop_census(shape, sequence=sequence)
    return {
        "parameters": total_parameters(shape),
        "active_parameters": active_parameters(shape),
        "mtp_parameters": mtp_parameters(shape),
        "parameter_parts": asdict(parameter_census(shape)),
        "sequence_length": sequence,
        "forward_flop_per_token": forward.total,
        "forward_flop_parts": asdict(forward),
        "training_flop_per_token": (1 + BACKWARD_PER_FORWARD) * forward.total,
    }


def counts_picture(card: ModelCard) -> RenderableType:
    """Return a model's parameters and FLOPs by part, each with the words of its formula."""
    shape, sequence = shape_of(card), _sequence(card)
    forward = flop_census(shape, sequence=sequence)
    training = (1 + BACKWARD_PER_FORWARD) * forward.total
    return Group(
        Text(_parameter_headline(card, shape), style="bold"),
        _parts(asdict(parameter_census(shape)), words=_parameter_words(card)),
        *(Text(line) for line in _further_lines(card, shape)),
        Text(),
        Text(
            f"{text_of_count(forward.total)} FLOP forward for a token of {sequence:,}, "
            f"{text_of_count(training)} with the backward pass (three times)",
            style="bold",
        ),
        _parts(asdict(forward), words=_flop_words(card)),
        Text(LEGEND, style="dim"),
    )


def _parameter_headline(card: ModelCard, shape: Shape) -> str:
    total = total_parameters(shape)
    text = f"{total:,} parameters counted from the fields"
    if card.published is None:
        return text
    with_mtp = "mtp" in card.published.includes
    counted = total + (mtp_parameters(shape) if with_mtp else 0)
    off = counted / (card.published.parameters_b * 1e9) - 1
    beside = " with multi-token prediction" if with_mtp else ""
    mark = ", unverified" if card.is_unverified("published.parameters_b") else ""
    return f"{text}; published {card.published.parameters_b:g} B{beside} ({off:+.2%}{mark})"


def _further_lines(card: ModelCard, shape: Shape) -> list[str]:
    lines = []
    published = card.published
    if card.moe is not None:
        line = f"{active_parameters(shape):,} of them meet a token"
        if published and published.active_parameters_b:
            without = "".join(f", without the {part}" for part in published.active_leaves_out)
            line += f"; published {published.active_parameters_b:g} B{without}"
        lines.append(line)
    if card.mtp_num_layers:
        lines.append(f"{mtp_parameters(shape):,} more for multi-token prediction")
    special = ", ".join(name.replace("_", " ") for name in card.special_fields())
    if special:
        lines.append(f"beside a plain transformer it has: {special}")
    if published and published.checkpoint_parameters:
        lines.append(f"the published checkpoint holds {published.checkpoint_parameters:,} elements")
    return lines


def _parts(parts: dict[str, float], *, words: dict[str, str]) -> Table:
    total = sum(parts.values())
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column(justify="right")
    table.add_column(style="dim")
    for name, value in parts.items():
        if value:
            title = f"  {name.replace('_', ' ')}"
            table.add_row(title, f"{value:,.0f}", f"{value / total:.1%}", words[name])
    return table


def _parameter_words(card: ModelCard) -> dict[str, str]:
    return PARAMETER_WORDS | ({"attention": LATENT_WORDS} if card.mla else {})


def _flop_words(card: ModelCard) -> dict[str, str]:
    return FLOP_WORDS | ({"attention_core": WINDOW_WORDS} if card.window else {})


def _sequence(card: ModelCard) -> int:
    reference = card.reference_training
    return reference.sequence_length if reference else min(card.max_sequence_length, 4096)
