"""Laws of the rank map: a bijection, and groups that partition the world."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.records.layout import Layout
from orchestrator.topology.ranks import coordinate_of, expert_coordinate_of, groups, rank_of

degree = st.sampled_from([1, 2, 3, 4])


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    tp, cp, pp, dp = draw(degree), draw(degree), draw(degree), draw(degree)
    ranks = tp * cp * dp
    ep = draw(st.sampled_from([d for d in (1, 2, 3, 4, 8) if ranks % d == 0]))
    etp = draw(st.sampled_from([d for d in (1, 2, 4) if ranks % (ep * d) == 0]))
    return Layout(tp=tp, cp=cp, pp=pp, dp=dp, ep=ep, etp=etp)


@given(layouts())
def test_rank_and_coordinate_are_a_bijection(layout):
    ranks = [rank_of(coordinate_of(rank, layout), layout) for rank in range(layout.world_size)]

    assert ranks == list(range(layout.world_size))


@given(layouts())
def test_expert_coordinates_are_unique(layout):
    seen = {expert_coordinate_of(rank, layout) for rank in range(layout.world_size)}

    assert len(seen) == layout.world_size


@pytest.mark.parametrize(
    "axes", [("tp",), ("cp",), ("dp",), ("pp",), ("dp", "cp"), ("tp", "pp"), ("ep",), ("edp",)]
)
@given(layout=layouts())
def test_groups_partition_the_world(axes, layout):
    degrees = {
        "tp": layout.tp,
        "cp": layout.cp,
        "dp": layout.dp,
        "pp": layout.pp,
        "ep": layout.ep,
        "edp": layout.expert_dp,
    }
    size = 1
    for axis in axes:
        size *= degrees[axis]

    found = groups(layout, *axes)

    assert Counter(rank for group in found for rank in group) == Counter(range(layout.world_size))
    assert {len(group) for group in found} == {size}
