"""Which model a row trained: a card of the catalog with the row's sizes, or one made of them."""

import re
from functools import cache

from orchestrator.catalog.cards import model_card, model_names
from orchestrator.cost.rows.row import Row, refuse
from orchestrator.specs.layers import MoeSpec
from orchestrator.specs.model import ModelCard

GATED_FAMILIES = (
    *("llama", "mistral", "mixtral", "qwen", "deepseek", "internlm", "gemma", "phi", "yi"),
    *("olmo", "glm-4", "kimi", "gpt-oss", "moonlight", "smollm", "granite", "command", "palm"),
)
"""Families whose MLP has a gate: three matrices."""

PLAIN_FAMILIES = ("gpt", "mpt", "bloom", "opt", "nemotron", "falcon", "mt-nlg", "megatron", "grok")
"""Families whose MLP has two matrices."""

UNTIED_PLAIN = ("nemotron", "falcon", "grok", "gpt-neox")
"""Of those, the ones whose output matrix is not the embedding."""

FFN_PER_HIDDEN = 4
USUAL_VOCAB = 51_200
UNMODELLED = {"mamba": "mamba", "nemotron3": "mamba", "nemotron-3": "mamba", "nemotron-h": "mamba"}
"""Names whose layers are of a kind that no formula here covers."""

_CUT = re.compile(r"-\d+l$")
_SIZES = (
    ("layers", "num_layers"),
    ("hidden", "hidden_size"),
    ("ffn_hidden", "ffn_hidden_size"),
    ("heads", "num_attention_heads"),
    ("kv_heads", "num_query_groups"),
    ("vocab", "vocab_size"),
)
_FIXED = ("hidden", "heads")
"""Sizes by which a catalog card is recognised as the row's model."""


def model_of(row: Row) -> ModelCard:
    """Return the model card of a row.

    Raises:
        Unreadable: sizes are missing or contradict each other, or layers are of an unknown kind.
    """
    name = row.text("model").lower()
    if not name:
        row.assume("model name unknown")
    for word, kind in UNMODELLED.items():
        if word in name:
            refuse(f"{kind} layers are not modelled")
    known = _card(name)
    if known is not None and _agrees(row, known):
        return _sized(row, known)
    return _made(row, name)


@cache
def _by_key() -> dict[str, str]:
    return {_key(name): name for name in model_names()}


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


@cache
def _card(name: str) -> ModelCard | None:
    key = _key(_CUT.sub("", name))
    known = _by_key()
    if key in known:
        return model_card(known[key])
    # 'llama4-maverick-400b' says more than the card's name, 'llama-4-maverick'.
    begins = [card for short, card in known.items() if key.startswith(short)]
    return model_card(max(begins, key=len)) if begins else None


def _agrees(row: Row, card: ModelCard) -> bool:
    for column, field in _SIZES:
        value = row.whole(column)
        if column in _FIXED and value is not None and value != getattr(card, field):
            return False
    experts = row.whole("moe_experts")
    return (experts is None) == (card.moe is None) or (experts is None and card.moe is not None)


def _sized(row: Row, card: ModelCard) -> ModelCard:
    """Return the card with what the row says otherwise."""
    changes: dict[str, object] = {}
    for column, field in _SIZES:
        value = row.whole(column)
        if value is None:
            row.assume(f"{column} {getattr(card, field)} from the card {card.name}")
        elif value != getattr(card, field) and (column != "kv_heads" or card.mla is None):
            changes[field] = value
    changes |= _moe_of(row, card) | _prediction_of(row, card)
    sequence = row.whole("seq_len")
    if sequence and sequence > card.max_sequence_length:
        changes["max_sequence_length"] = sequence
    return card.model_copy(update=changes) if changes else card


def _prediction_of(row: Row, card: ModelCard) -> dict[str, object]:
    """Return that there is no multi-token prediction where a row says so or is cut short."""
    if not card.mtp_num_layers:
        return {}
    layers = row.whole("layers")
    if "w/o mtp" in row.text("notes").lower() or (layers and layers != card.num_layers):
        return {"mtp_num_layers": 0}
    row.assume("multi-token prediction on")
    return {}


def _moe_of(row: Row, card: ModelCard) -> dict[str, object]:
    """Return the card's experts with what the row says otherwise."""
    if card.moe is None:
        return {}
    changes = _moe_changes(row, card.moe)
    layers = row.whole("layers")
    if layers and layers < card.num_layers // 2 and card.moe.layer_pattern.startswith("[0]"):
        changes["layer_pattern"] = f"[0]*1+[1]*{max(1, layers - 1)}"
        row.assume("one dense layer in a model cut short")
    return {"moe": card.moe.model_copy(update=changes)} if changes else {}


def _moe_changes(row: Row, moe: MoeSpec) -> dict[str, object]:
    table = (
        ("moe_experts", "num_experts"),
        ("moe_topk", "router_topk"),
        ("moe_ffn", "moe_ffn_hidden_size"),
    )
    return {
        field: value
        for column, field in table
        if (value := row.whole(column)) is not None and value != getattr(moe, field)
    }


def _made(row: Row, name: str) -> ModelCard:
    """Return a card of the row's own sizes; what kind of MLP it has is told by its family."""
    layers, hidden, heads = (row.needed(column) for column in ("layers", "hidden", "heads"))
    groups = row.whole("kv_heads")
    if groups is None:
        groups = heads
        row.assume(f"kv_heads {heads}, as many as heads")
    vocab = row.whole("vocab")
    if vocab is None:
        vocab = USUAL_VOCAB
        row.assume(f"vocab {vocab}")
    if heads % groups:
        refuse(f"kv_heads {groups} does not divide heads {heads}")
    gated = _is_gated(row, name)
    ffn = row.whole("ffn_hidden")
    if ffn is None:
        ffn = FFN_PER_HIDDEN * hidden
        row.assume(f"ffn_hidden {ffn}, 4 x hidden")
    tied = not gated and not name.startswith(UNTIED_PLAIN)
    return ModelCard(
        name=name or "unnamed",
        num_layers=layers,
        hidden_size=hidden,
        ffn_hidden_size=ffn,
        num_attention_heads=heads,
        num_query_groups=groups,
        head_dim=max(1, hidden // heads),
        vocab_size=vocab,
        max_sequence_length=row.whole("seq_len") or 2048,
        gated_mlp=gated,
        activation="silu" if gated else "gelu",
        normalization="RMSNorm" if gated else "LayerNorm",
        position_embedding="rope",
        rotary_base=10_000,
        tied_embeddings=tied,
        qkv_bias=not gated,
        linear_bias=not gated,
        moe=_moe(row, ffn=ffn),
    )


def _moe(row: Row, *, ffn: int) -> MoeSpec | None:
    experts = row.whole("moe_experts")
    if experts is None:
        return None
    topk = row.whole("moe_topk")
    if topk is None:
        topk = min(2, experts)
        row.assume(f"moe_topk {topk}")
    width = row.whole("moe_ffn")
    if width is None:
        width = ffn
        row.assume(f"moe_ffn {ffn}, as ffn_hidden")
    if topk > experts:
        refuse(f"moe_topk {topk} is more than moe_experts {experts}")
    return MoeSpec(num_experts=experts, router_topk=topk, moe_ffn_hidden_size=width)


def _is_gated(row: Row, name: str) -> bool:
    """Return whether the MLP has a gate: by the family's name, else by what fits the parameters."""
    if name.startswith(GATED_FAMILIES):
        return True
    if name.startswith(PLAIN_FAMILIES):
        return False
    billions = row.number("params_b")
    ffn, hidden, layers = (row.whole(column) for column in ("ffn_hidden", "hidden", "layers"))
    if billions and ffn and hidden and layers and not row.whole("moe_experts"):
        rest = billions * 1e9 - layers * FFN_PER_HIDDEN * hidden * hidden
        gated = rest > 2.5 * layers * ffn * hidden
        row.assume(f"{'gated' if gated else 'plain'} MLP, as the parameters say")
        return gated
    row.assume("plain MLP")
    return False
