"""Laws of stage layouts: layers sum up, and texts parse back."""

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.schedules.stages import (
    Stage,
    StageLayout,
    accounted,
    even,
    layers_on_rank,
    parse,
    text_of,
    text_refusal,
)

stages = st.builds(
    Stage,
    has_embedding=st.booleans(),
    decoder_layers=st.integers(0, 9),
    mtp_layers=st.integers(0, 5),
    has_loss=st.booleans(),
)
runs_of_stages = st.lists(st.tuples(stages, st.integers(1, 12)), min_size=1, max_size=8)
layouts = runs_of_stages.map(
    lambda runs: StageLayout(stages=tuple(stage for stage, count in runs for _ in range(count)))
)


@given(layouts)
def test_a_layouts_text_parses_back(layout):
    assert parse(text_of(layout)) == layout


@given(layouts)
def test_commas_mean_nothing(layout):
    assert parse(",".join(text_of(layout))) == layout


@given(layouts)
def test_a_layouts_text_is_never_longer_than_its_letters(layout):
    spelled = "|".join(stage.letters for stage in layout.stages)

    assert len(text_of(layout)) <= len(spelled)


@given(layouts, st.integers(1, 9))
def test_layers_of_the_ranks_sum_to_those_of_the_layout(layout, pp):
    assert sum(layers_on_rank(layout, pp, rank) for rank in range(pp)) == layout.num_layers


@given(st.integers(1, 12), st.integers(1, 5), st.integers(1, 6), st.integers(0, 2))
def test_even_layouts_hold_all_layers_equally_and_are_taken(pp, vpp, each, mtp_num_layers):
    num_layers = pp * vpp * each

    layout = even(num_layers, num_stages=pp * vpp, mtp_num_layers=mtp_num_layers)

    assert {stage.decoder_layers for stage in layout.stages} == {each}
    assert taken(layout, pp=pp, vpp=vpp, num_layers=num_layers, mtp_num_layers=mtp_num_layers)


@given(st.integers(1, 12), st.integers(1, 5), st.integers(1, 60), st.integers(0, 2))
def test_accounted_layouts_hold_all_layers_and_exist_where_a_sum_divides(
    pp, vpp, num_layers, mtp_num_layers
):
    num_stages = pp * vpp

    layout = accounted(num_layers, num_stages=num_stages, mtp_num_layers=mtp_num_layers)

    divides = 0 in {(num_layers + 2) % num_stages, (num_layers + 1) % num_stages}
    assert (layout is not None) == divides
    if layout is not None:
        counts = {stage.decoder_layers for stage in layout.stages}
        assert max(counts) - min(counts) <= 1
        assert taken(layout, pp=pp, vpp=vpp, num_layers=num_layers, mtp_num_layers=mtp_num_layers)


def taken(layout: StageLayout, *, pp: int, vpp: int, num_layers: int, mtp_num_layers: int) -> bool:
    refused = text_refusal(
        text_of(layout), pp=pp, vpp=vpp, num_layers=num_layers, mtp_num_layers=mtp_num_layers
    )
    return refused is None
