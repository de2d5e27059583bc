"""Which software a row ran on: family, release, kernels and switches."""

import re

from orchestrator.cost.rows.row import Row
from orchestrator.cost.software import (
    MEGATRON,
    NEWEST_RELEASE,
    AttentionKernel,
    Graphs,
    MatmulFormat,
    Software,
)

FAMILIES: tuple[tuple[str, str], ...] = (
    ("zero bubble", "zero-bubble"),
    ("zero-bubble", "zero-bubble"),
    ("automodel", "automodel"),
    ("megatron-deepspeed", "megatron-deepspeed"),
    ("megatron-bridge", MEGATRON),
    ("megatron", MEGATRON),
    ("nemo", MEGATRON),
    ("maxtext", "maxtext"),
    ("pax", "pax"),
    ("llm-foundry", "llm-foundry"),
    ("composer", "llm-foundry"),
    ("torchtitan", "torchtitan"),
    ("internevo", "internevo"),
    ("megascale", "megascale"),
    ("hai-llm", "hai-llm"),
)
"""A word of the framework column, and the family it says; the first that fits."""

FORMATS = {
    "": MatmulFormat.BF16,
    "fp32": MatmulFormat.FP32,
    "tf32": MatmulFormat.FP32,
    "bf16": MatmulFormat.BF16,
    "fp16": MatmulFormat.BF16,
    "mxfp8": MatmulFormat.MXFP8,
    "nvfp4": MatmulFormat.NVFP4,
}
"""Formats by the precision column; any other word with `fp8` in it is FP8."""

COMPILED = ("maxtext", "pax")
"""Families whose whole step is one compiled program."""

MODERN = (MEGATRON, "megascale", "hai-llm", "automodel", "zero-bubble")
"""Families with NVIDIA's fused kernels."""

FUSED_LOSS = (*COMPILED, "llm-foundry", "internevo")
"""Families whose loss always was one kernel (Flash Attention's, or the compiler's)."""

FUSED_LOSS_SINCE = 2024.6
"""NeMo fuses the loss from 24.09 on (`cross_entropy_loss_fusion`)."""

FULL_GRAPHS_SINCE = 2026.4
"""From 26.06 on Megatron-Bridge's expert recipes record whole iterations and hide the exchange."""

_RELEASE = re.compile(r"\b(2[0-9])\.(\d{2})(?:\.\d+)?\b")


def software_of(row: Row) -> Software:
    """Return the software of a row."""
    framework = row.text("framework").lower()
    family = next((name for word, name in FAMILIES if word in framework), "")
    if not family:
        family = MEGATRON if not framework else framework.split()[0]
        row.assume(f"framework family {family}")
    release = _release(row, framework)
    return Software(
        family=family,
        release=release,
        attention=_attention(family),
        graphs=_graphs(row, family, release=release),
        fuses_loss=family in FUSED_LOSS or (family in MODERN and release > FUSED_LOSS_SINCE),
        hides_experts=_hides_experts(row, release=release),
        sends_once=_sends_once(row),
        is_eager=family not in COMPILED and family not in MODERN,
    )


def format_of(row: Row) -> MatmulFormat:
    """Return the number format of the layers' products."""
    word = row.text("precision").lower()
    if not word and "fp8 default" in row.text("notes").lower():
        row.assume("precision fp8, the default named in the notes")
        word = "fp8"
    if not word:
        row.assume("precision bf16")
    if word in FORMATS:
        return FORMATS[word]
    if "fp8" in word:
        return MatmulFormat.FP8
    row.assume(f"precision {word} taken as bf16")
    return MatmulFormat.BF16


def _release(row: Row, framework: str) -> float:
    """Return when the software was released: by its version, else the middle of its year."""
    found = _RELEASE.search(framework)
    if found and 1 <= int(found[2]) <= 12:  # noqa: PLR2004  months
        return 2000 + int(found[1]) + (int(found[2]) - 0.5) / 12
    year = row.number("year")
    if year is None:
        row.assume("the newest release")
        return NEWEST_RELEASE
    return year + 0.5


def _attention(family: str) -> AttentionKernel:
    match family:
        case "llm-foundry":
            return AttentionKernel.TRITON
        case "torchtitan":
            return AttentionKernel.PYTORCH
        case "megatron-deepspeed":
            return AttentionKernel.UNFUSED
        case _:
            return AttentionKernel.TUNED


def _graphs(row: Row, family: str, *, release: float) -> Graphs:
    if family in COMPILED:
        return Graphs.FULL
    words = f"{row.text('cuda_graph_impl')} {row.text('cuda_graph_scope')}".lower().strip()
    if "full_iteration" in words or words.startswith("local"):
        return Graphs.FULL
    if "transformer_engine" in words:
        return Graphs.PARTIAL
    if not words and row.whole("moe_experts") and release > FULL_GRAPHS_SINCE:
        row.assume("graphs of whole iterations")
        return Graphs.FULL
    return Graphs.NONE


def _hides_experts(row: Row, *, release: float) -> bool:
    word = row.text("moe_a2a_overlap").lower()
    if row.text("schedule").lower() == "dualpipe":
        return True
    if not word and row.whole("moe_experts") and release > FULL_GRAPHS_SINCE:
        row.assume("expert exchange overlaps")
        return True
    return word in {"true", "yes", "1", "on"}


def _sends_once(row: Row) -> bool:
    words = f"{row.text('moe_dispatcher')} {row.text('notes')} {row.text('framework')}".lower()
    return any(word in words for word in ("hybridep", "deepep", "hai-llm"))
