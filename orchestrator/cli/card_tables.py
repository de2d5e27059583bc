"""Tables of built-in cards for people, and the same as JSON for scripts.

A `?` behind a figure says that nobody read it in a source; `llmorch show NAME` says why.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.catalog.cards import (
    accelerator_card,
    accelerator_names,
    accelerator_of,
    cluster_card,
    cluster_names,
    model_card,
    model_names,
)
from orchestrator.cost.parameters import active_parameters, total_parameters
from orchestrator.cost.shape import shape_of
from orchestrator.errors import UnknownName
from orchestrator.specs.card import Card
from orchestrator.specs.choices import Precision
from orchestrator.specs.cluster import AcceleratorCard, ClusterCard
from orchestrator.specs.model import ModelCard
from orchestrator.units import text_of_count

SCHEMA = 1
UNVERIFIED_MARK = "?"
LEGEND = f"{UNVERIFIED_MARK} unverified: nobody read it in a source; see llmorch show NAME"

AnyCard = TypeVar("AnyCard", bound=Card)


def models_found(words: Sequence[str]) -> tuple[ModelCard, ...]:
    """Return the built-in models in whose name or family every word stands; no words: all.

    Raises:
        UnknownName: there is none; the nearest name is given.
    """
    cards = [model_card(name) for name in model_names()]
    return _matching(cards, words, kind="model", text=lambda card: f"{card.name} {card.family}")


def clusters_found(words: Sequence[str]) -> tuple[ClusterCard, ...]:
    """Return the built-in clusters in whose name, provider, accelerator or fabric words stand.

    There may be none where an accelerator of that name is built in: a cluster is still to be made.

    Raises:
        UnknownName: there is neither; the nearest name is given.
    """
    cards = [cluster_card(name) for name in cluster_names()]
    if accelerators_named(words) and not any(_has(_cluster_text(card), words) for card in cards):
        return ()
    return _matching(
        cards,
        words,
        kind="cluster",
        text=_cluster_text,
    )


def accelerators_named(words: Sequence[str]) -> tuple[AcceleratorCard, ...]:
    """Return the built-in accelerators in whose name every word stands."""
    return tuple(card for card in all_accelerators() if _has(card.name, words))


def accelerators_of(clusters: Iterable[ClusterCard]) -> tuple[AcceleratorCard, ...]:
    """Return the accelerators of these clusters, each once, by name."""
    found = {accelerator_of(card).name: accelerator_of(card) for card in clusters}
    return tuple(found[name] for name in sorted(found))


def all_accelerators() -> tuple[AcceleratorCard, ...]:
    """Return every built-in accelerator."""
    return tuple(accelerator_card(name) for name in accelerator_names())


def models_document(cards: Iterable[ModelCard]) -> dict[str, Any]:
    """Return models as JSON, with the parameters counted from their fields."""
    return {"schema": SCHEMA, "models": [_model_row(card) for card in cards]}


def clusters_document(
    clusters: Iterable[ClusterCard], accelerators: Iterable[AcceleratorCard]
) -> dict[str, Any]:
    """Return clusters and accelerators as JSON: their cards, without sources and notes."""
    left_out = {"source", "retrieved", "notes"}
    return {
        "schema": SCHEMA,
        "clusters": [card.model_dump(mode="json", exclude=left_out) for card in clusters],
        "accelerators": [card.model_dump(mode="json", exclude=left_out) for card in accelerators],
    }


def models_picture(cards: Iterable[ModelCard]) -> RenderableType:
    """Return models as a table, a line each."""
    table = _table("model", "parameters", "active", "published", "layers", "hidden", "context")
    for card in cards:
        shape = shape_of(card)
        total = total_parameters(shape)
        published = f"{card.published.parameters_b:g} B" if card.published else ""
        table.add_row(
            card.name,
            text_of_count(total),
            text_of_count(active_parameters(shape)) if card.moe else "",
            _marked(card, "published", published),
            _marked(card, "num_layers", str(card.num_layers)),
            _marked(card, "hidden_size", f"{card.hidden_size:,}"),
            _marked(card, "max_sequence_length", f"{card.max_sequence_length:,}"),
        )
    return Group(table, Text(LEGEND, style="dim"))


def clusters_picture(
    clusters: Iterable[ClusterCard], accelerators: Iterable[AcceleratorCard]
) -> RenderableType:
    """Return clusters and their accelerators as two tables, a line each."""
    hosts = _table("cluster", "from", "accelerator", "GPUs", "domain", "Gbit/s a GPU", "fabric")
    for cluster in clusters:
        hosts.add_row(
            cluster.name,
            cluster.provider or "",
            accelerator_of(cluster).name,
            str(cluster.gpus_per_host),
            str(cluster.scale_up_domain_gpus),
            _marked(
                cluster, "network_gbit_per_s_per_gpu", f"{cluster.network_gbit_per_s_per_gpu:g}"
            ),
            cluster.fabric,
        )
    chips = _table("accelerator", "GiB", "TB/s", "BF16", "FP8", "links GB/s", "W", "USD an hour")
    for chip in accelerators:
        chips.add_row(*_accelerator_row(chip))
    rates = "BF16 and FP8: TFLOP/s, dense; links: one direction; prices: ranges, never inputs"
    return Group(hosts, Text(), chips, Text(f"{rates}\n{LEGEND}", style="dim"))


def price_range_text(card: AcceleratorCard | ClusterCard) -> str:
    """Return the lowest and highest price of a card: `1.5-6.9 (2026)`; none: an empty text."""
    if not card.prices:
        return ""
    low = min(price.low_usd for price in card.prices)
    high = max(price.high_usd for price in card.prices)
    return f"{low:g}-{high:g} ({max(price.as_of for price in card.prices)})"


def _model_row(card: ModelCard) -> dict[str, Any]:
    shape = shape_of(card)
    return {
        "name": card.name,
        "family": card.family,
        "parameters": total_parameters(shape),
        "active_parameters": active_parameters(shape),
        "published_parameters_b": card.published.parameters_b if card.published else None,
        "num_layers": card.num_layers,
        "hidden_size": card.hidden_size,
        "num_experts": card.moe.num_experts if card.moe else 0,
        "max_sequence_length": card.max_sequence_length,
        "special_fields": list(card.special_fields()),
        "unverified": list(card.unverified),
    }


def _accelerator_row(chip: AcceleratorCard) -> tuple[str, ...]:
    fp8 = chip.dense_tflops.get(Precision.FP8)
    bf16 = chip.dense_tflops.get(Precision.BF16)
    return (
        chip.name,
        _marked(chip, "memory_gib", f"{chip.memory_gib:g}"),
        _marked(chip, "memory_bandwidth_tb_per_s", f"{chip.memory_bandwidth_tb_per_s:g}"),
        _marked(chip, "dense_tflops.bf16", f"{bf16:g}" if bf16 else ""),
        _marked(chip, "dense_tflops.fp8", f"{fp8:g}" if fp8 else ""),
        _marked(chip, "scale_up_gb_per_s", f"{chip.scale_up_gb_per_s:g}"),
        _marked(chip, "power_w", f"{chip.power_w:g}"),
        _marked(chip, "prices", price_range_text(chip)),
    )


def _marked(card: Card, path: str, text: str) -> str:
    return f"{text}{UNVERIFIED_MARK}" if text and card.is_unverified(path) else text


def _matching(
    cards: Sequence[AnyCard], words: Sequence[str], *, kind: str, text: Callable[[AnyCard], str]
) -> tuple[AnyCard, ...]:
    found = tuple(card for card in cards if _has(text(card), words))
    if not found:
        names = [card.name for card in cards]
        raise UnknownName(kind=kind, name=" ".join(words), known=names)
    return found


def _has(text: str, words: Sequence[str]) -> bool:
    return all(word.casefold() in text.casefold() for word in words)


def _cluster_text(card: ClusterCard) -> str:
    return " ".join((card.name, card.provider or "", accelerator_of(card).name, card.fabric))


def _table(*columns: str) -> Table:
    """Return a table whose columns of words stand left, those of figures right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    words = {"model", "cluster", "from", "accelerator", "fabric"}
    for column in columns:
        table.add_column(column, justify="left" if column in words else "right")
    return table
