"""Laws of the rank map and of links: bijections, partitions, bytes that are all somewhere."""

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from orchestrator.catalog.cards import accelerator_card, cluster_card
from orchestrator.records.layout import Layout
from orchestrator.records.run import Machine
from orchestrator.topology.groups import GroupKind, group_table
from orchestrator.topology.host_order import best_order
from orchestrator.topology.hosts import Host
from orchestrator.topology.links import Pattern, Traffic, edges_of, loads
from orchestrator.topology.placement import numbered_hosts, placed
from orchestrator.topology.rank_rows import rank_rows
from orchestrator.topology.ranks import (
    RankOrder,
    coordinate_of,
    coordinates,
    dense_order,
    expert_coordinate_of,
    expert_order,
    groups,
    rank_of,
)

degree = st.sampled_from([1, 2, 3, 4])
orders = st.permutations(["tp", "cp", "ep", "dp", "pp"]).map("-".join).map(RankOrder)


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    tp, cp, pp, dp = draw(degree), draw(degree), draw(degree), draw(degree)
    ranks = tp * cp * dp
    ep = draw(st.sampled_from([d for d in (1, 2, 3, 4, 8) if ranks % d == 0]))
    etp = draw(st.sampled_from([d for d in (1, 2, 4) if ranks % (ep * d) == 0]))
    return Layout(tp=tp, cp=cp, pp=pp, dp=dp, ep=ep, etp=etp)


@settings(deadline=None, max_examples=50)
@given(layouts(), orders)
def test_rank_and_coordinate_are_a_bijection(layout, order):
    where = coordinates(layout, order)
    found = [coordinate_of(rank, layout, order) for rank in range(layout.world_size)]

    assert [rank_of(one, layout, order) for one in found] == list(range(layout.world_size))
    assert [(one.tp, one.cp, one.dp, one.pp) for one in found] == list(
        zip(*(where[axis].tolist() for axis in ("tp", "cp", "dp", "pp")), strict=True)
    )


@settings(deadline=None, max_examples=40)
@given(layouts(), orders)
def test_expert_coordinates_are_unique(layout, order):
    seen = {expert_coordinate_of(rank, layout, order) for rank in range(layout.world_size)}

    assert len(seen) == layout.world_size


@pytest.mark.parametrize(
    "axes", [("tp",), ("cp",), ("dp",), ("pp",), ("dp", "cp"), ("tp", "pp"), ("ep",), ("edp", "pp")]
)
@settings(deadline=None, max_examples=40)
@given(layout=layouts(), order=orders)
def test_groups_are_the_ranks_that_differ_on_their_axes_alone(axes, layout, order):
    """The definition, rank by rank; the product is cut with numpy instead."""
    expert = {"etp", "ep", "edp"} & set(axes)
    sizes = (expert_order if expert else dense_order)(layout, order)
    members: dict[tuple[int, ...], list[int]] = {}
    for rank in range(layout.world_size):
        rest, key = rank, []
        for axis, size in sizes:
            rest, digit = divmod(rest, size)
            key += [] if axis in axes else [digit]
        members.setdefault(tuple(key), []).append(rank)

    found = groups(layout, *axes, order=order)

    assert found == tuple(sorted(map(tuple, members.values())))


@settings(deadline=None)
@given(layouts(), orders, st.sampled_from(GroupKind))
def test_groups_of_a_kind_are_equal_and_hold_no_rank_twice(layout, order, kind):
    table = group_table(layout, kind, order=order)

    counts = Counter(table.ravel().tolist())
    assert set(counts.values()) == {1}
    if kind not in {GroupKind.EMBEDDING, GroupKind.POSITION_EMBEDDING}:
        assert len(counts) == layout.world_size


@st.composite
def placements(draw: st.DrawFn, *, levels: bool):
    layout = draw(layouts())
    gpus = draw(st.sampled_from([g for g in (1, 2, 3, 4, 8) if layout.world_size % g == 0]))
    domain = draw(st.sampled_from([1, 2, gpus, 2 * gpus]))
    card = cluster_card("dgx-h100").model_copy(update={"scale_up_domain_gpus": domain})
    spares = draw(st.integers(0, 2))
    machine = Machine(
        cluster=card,
        accelerator=accelerator_card("h100-80gb-sxm"),
        hosts=layout.world_size // gpus,
        gpus_per_host=gpus,
        spares=spares,
    )
    if not levels:
        return layout, placed(numbered_hosts(machine), machine)
    names = st.sampled_from("abc")
    roster = [
        Host(name=f"h{n}", block=draw(names), rack=draw(names))
        for n in range(machine.hosts + spares)
    ]
    return layout, placed(roster, machine)


@st.composite
def traffic(draw: st.DrawFn) -> Traffic:
    kinds = [k for k in GroupKind if k is not GroupKind.WORLD]
    return Traffic(
        kind=draw(st.sampled_from(kinds)),
        pattern=draw(st.sampled_from(Pattern)),
        sent_bytes=(float(draw(st.integers(1, 10**9))),),
    )


@settings(deadline=None, max_examples=50)
@given(placements(levels=True), st.lists(traffic(), max_size=4))
def test_every_byte_sent_is_on_one_link_and_outer_switches_carry_no_more(case, sent):
    layout, placement = case
    load = loads(sent, layout, placement)

    links = load.fast.sum() + load.inside.sum() + load.network.sum()
    all_sent = sum(edges.sent_bytes.sum() for one in sent for edges in edges_of(one, layout))
    block, rack = (level.total_bytes for level in load.switches)
    assert links == pytest.approx(all_sent)
    assert load.by_host.sum() == pytest.approx(load.network.sum())
    assert block <= rack * (1 + 1e-9)
    assert rack <= all_sent * (1 + 1e-9)


@settings(deadline=None, max_examples=70)
@given(placements(levels=True), st.lists(traffic(), min_size=1, max_size=4))
def test_an_order_of_hosts_is_never_worse_than_the_one_given(case, sent):
    layout, placement = case
    better = best_order(sent, layout, placement)

    moved = placed(placement.roster, placement.machine, seats=better.seats)
    given_loads = [level.total_bytes for level in loads(sent, layout, placement).switches]
    own_loads = [level.total_bytes for level in loads(sent, layout, moved).switches]
    assert len(set(better.seats)) == len(better.seats) == len(placement.seats)
    assert all(seat < len(placement.roster) for seat in better.seats)
    assert better.bytes == pytest.approx(own_loads, abs=1)
    assert better.given_bytes == pytest.approx(given_loads, abs=1)
    assert all(own <= old for own, old in zip(better.bytes, better.given_bytes, strict=True))


@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from([(2, 2), (3, 2), (2, 3), (1, 5), (5, 1)]),
    st.lists(st.sampled_from("abc"), min_size=6, max_size=6),
    st.sampled_from([0.1, 1.0, 10.0]),
)
def test_an_order_saves_nearly_what_the_best_of_all_orders_saves(cut, names, weight):
    dp, pp = cut
    assume(len(set(names[: dp * pp])) > 1)
    layout = Layout(tp=8, dp=dp, pp=pp)
    machine = Machine(
        cluster=cluster_card("dgx-h100"),
        accelerator=accelerator_card("h100-80gb-sxm"),
        hosts=dp * pp,
        gpus_per_host=8,
    )
    placement = placed([Host(name=f"h{n}", rack=names[n]) for n in range(dp * pp)], machine)
    sent = [
        Traffic(kind=GroupKind.DP_CP, pattern=Pattern.RING, sent_bytes=(1000 * weight,)),
        Traffic(kind=GroupKind.PP, pattern=Pattern.NEXT, sent_bytes=(1000.0,)),
    ]
    better = best_order(sent, layout, placement)

    flows = np.zeros((dp * pp, dp * pp))
    for one in sent:
        for edges in edges_of(one, layout):
            np.add.at(flows, (edges.source // 8, edges.target // 8), edges.sent_bytes)
    rack = placement.switches[0]
    least = min(
        flows[rack[list(seats)][:, None] != rack[list(seats)][None, :]].sum()
        for seats in permutations(range(dp * pp))
    )
    assert least <= better.bytes[0] + 1
    assert better.bytes[0] <= 1.5 * least + 1


@settings(deadline=None, max_examples=30)
@given(placements(levels=False))
def test_the_rows_of_a_rank_map_hold_every_rank_once_in_order(case):
    layout, placement = case
    rows = rank_rows(layout, placement)

    ranks = [rank for row in rows for rank in range(row.first_rank, row.last_rank + 1)]
    assert ranks == list(range(layout.world_size))
    assert sum(row.num_hosts for row in rows) == len(placement.seats)
