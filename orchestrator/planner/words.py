"""A layout in a few words, for examples and explanations."""

from orchestrator.records.layout import Layout, Recompute
from orchestrator.specs.choices import RecomputeGranularity


def words_of(layout: Layout) -> str:
    """Return a layout as `tp 4, pp 8, vpp 6, dp 32, micro batch 1`; degrees of 1 are left out."""
    degrees = [
        f"{axis} {getattr(layout, axis)}"
        for axis in ("tp", "cp", "pp", "vpp", "ep", "etp", "dp")
        if getattr(layout, axis) > 1
    ]
    words = [*(degrees or ["one rank"]), f"micro batch {layout.micro_batch_size}"]
    if layout.zero_stage != 1:
        words.append(f"ZeRO {layout.zero_stage}")
    if layout.recompute.granularity is not RecomputeGranularity.NONE:
        words.append(recompute_words(layout.recompute))
    return ", ".join(words)


def recompute_words(recompute: Recompute) -> str:
    """Return a recomputation as `recompute mlp`, `recompute 1 layer a chunk`, `full recompute`."""
    if recompute.granularity is RecomputeGranularity.NONE:
        return "no recompute"
    if recompute.granularity is RecomputeGranularity.SELECTIVE:
        return f"recompute {' '.join(recompute.modules)}"
    if recompute.layers is None:
        return "full recompute"
    return f"recompute {recompute.layers} layer{'s' if recompute.layers > 1 else ''} a chunk"
