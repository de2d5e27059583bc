"""Layouts in words."""

import pytest

from orchestrator.planner.words import recompute_words, words_of
from orchestrator.records.layout import Layout, Recompute
from orchestrator.specs.choices import RecomputeGranularity, ScheduleKind

SELECTIVE = Recompute(
    granularity=RecomputeGranularity.SELECTIVE, modules=("mla_up_proj", "moe_act")
)


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        (Layout(tp=1, pp=1, dp=1), "one rank, micro batch 1"),
        (
            Layout(tp=4, pp=8, dp=32, vpp=6, schedule=ScheduleKind.INTERLEAVED),
            "tp 4, pp 8, vpp 6, dp 32, micro batch 1",
        ),
        (Layout(tp=1, pp=1, dp=8, zero_stage=3), "dp 8, micro batch 1, ZeRO 3"),
        (
            Layout(tp=1, pp=1, dp=8, recompute=SELECTIVE),
            "dp 8, micro batch 1, recompute mla_up_proj moe_act",
        ),
    ],
)
def test_a_layout_is_named_by_what_it_divides(layout: Layout, words: str):
    assert words_of(layout) == words


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        (None, "full recompute"),
        (1, "recompute 1 layer a chunk"),
        (2, "recompute 2 layers a chunk"),
    ],
)
def test_whole_layers_are_counted(layers: int | None, words: str):
    full = Recompute(granularity=RecomputeGranularity.FULL, layers=layers)

    assert recompute_words(full) == words
