"""Bytes on links, worked out by hand, and the hosts a run needs."""

import numpy as np
import pytest

from orchestrator.catalog.cards import accelerator_card, cluster_card
from orchestrator.records.layout import Layout
from orchestrator.records.run import Machine
from orchestrator.topology.groups import GroupKind
from orchestrator.topology.hosts import Host
from orchestrator.topology.links import Pattern, Traffic, loads
from orchestrator.topology.placement import numbered_hosts, placed
from orchestrator.topology.roster import roster_problems


def machine(hosts, *, card="dgx-h100", spares=0, gpus=8, **changes):
    cluster = cluster_card(card).model_copy(update=changes)
    return Machine(
        cluster=cluster,
        accelerator=accelerator_card("h100-80gb-sxm"),
        hosts=hosts,
        gpus_per_host=gpus,
        spares=spares,
    )


def sent(layout, one, kind, *, pattern=Pattern.RING, sent_bytes=(800.0,), roster=None):
    traffic = Traffic(kind=kind, pattern=pattern, sent_bytes=sent_bytes)
    return loads([traffic], layout, placed(roster or numbered_hosts(one), one))


def test_a_ring_inside_a_host_uses_the_fast_links_alone():
    load = sent(Layout(tp=8, pp=1, dp=2), machine(2), GroupKind.TP)

    assert load.fast.tolist() == [800] * 16
    assert not load.network.any()


def test_a_ring_of_one_gpu_a_host_uses_its_own_adapter():
    load = sent(Layout(tp=8, pp=1, dp=2), machine(2), GroupKind.DP_CP)

    assert load.network.tolist() == [800] * 16
    assert load.by_host.tolist() == [6400] * 2
    assert not load.fast.any()


def test_a_ring_over_whole_hosts_leaves_each_once_over_all_adapters():
    """16 in a ring over 2 hosts: 7 of 8 edges of a host stay inside, the members share the one."""
    load = sent(Layout(tp=16, pp=1, dp=1), machine(2), GroupKind.TP)

    assert load.fast.tolist() == [700] * 16
    assert load.network.tolist() == [100] * 16
    assert load.by_host.tolist() == [800] * 2


def test_everyone_to_everyone_sends_equal_parts():
    """15 others: 7 on the own host, 8 on the other."""
    load = sent(
        Layout(tp=1, pp=1, dp=16, ep=16),
        machine(2),
        GroupKind.EP,
        pattern=Pattern.ALL,
        sent_bytes=(1500.0,),
    )

    assert load.fast.tolist() == pytest.approx([700] * 16)
    assert load.network.tolist() == pytest.approx([800] * 16)


def test_each_pipeline_rank_sends_its_own_bytes_to_the_next():
    load = sent(
        Layout(tp=8, pp=3, dp=1),
        machine(3),
        GroupKind.PP,
        pattern=Pattern.NEXT,
        sent_bytes=(100.0, 50.0, 0.0),
    )

    assert load.by_host.tolist() == [800, 400, 0]


def test_what_goes_up_to_a_switch_is_counted_where_it_leaves():
    """Four hosts in a dp ring, racks a a b b: the ring leaves each rack once."""
    roster = [Host(name=f"h{n}", rack=rack) for n, rack in enumerate("aabb")]

    load = sent(Layout(tp=8, pp=1, dp=4), machine(4), GroupKind.DP_CP, roster=roster)

    assert load.switches[0].level == "rack"
    assert load.switches[0].sent_bytes == {"a": 8 * 800, "b": 8 * 800}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (Pattern.NEXT, {"a": 800, "b": 0}),
        (Pattern.PREVIOUS, {"a": 800, "b": 400}),
    ],
)
def test_a_pipeline_sends_in_its_direction(pattern, expected):
    """Three pipeline ranks in racks a b b: who comes before the first is the last."""
    roster = [Host(name=f"h{n}", rack=rack) for n, rack in enumerate("abb")]

    load = sent(
        Layout(tp=8, pp=3, dp=1),
        machine(3),
        GroupKind.PP,
        pattern=pattern,
        sent_bytes=(100.0, 50.0, 0.0),
        roster=roster,
    )

    assert load.switches[0].sent_bytes == expected


def test_racks_of_one_name_below_two_blocks_are_two():
    roster = [Host(name=f"h{n}", block=block, rack="r1") for n, block in enumerate("ab")]

    load = sent(Layout(tp=8, pp=1, dp=2), machine(2), GroupKind.DP_CP, roster=roster)

    assert load.switches[1].sent_bytes == {"a/r1": 6400, "b/r1": 6400}


def test_hosts_that_share_fast_links_need_no_network():
    load = sent(Layout(tp=8, pp=1, dp=1), machine(2, card="gb200-nvl72", gpus=4), GroupKind.TP)

    assert load.fast.tolist() == [800] * 8
    assert not load.network.any()


def test_a_rack_of_fast_links_is_the_rack_of_the_hostfile():
    roster = [Host(name=f"h{n}", rack=rack) for n, rack in enumerate("ab")]

    load = sent(
        Layout(tp=8, pp=1, dp=1),
        machine(2, card="gb200-nvl72", gpus=4),
        GroupKind.TP,
        roster=roster,
    )

    assert load.by_host.tolist() == [800] * 2


def test_pairs_of_fast_links_leave_the_rest_to_the_host():
    load = sent(Layout(tp=8, pp=1, dp=1), machine(1, scale_up_domain_gpus=2), GroupKind.TP)

    assert load.fast.tolist() == [400] * 8
    assert load.inside.tolist() == [400] * 8
    assert not load.network.any()


LAYOUT = Layout(tp=8, pp=2, dp=2)


def said(hosts, one=None, layout=LAYOUT):
    return [str(problem) for problem in roster_problems(hosts, one or machine(4), layout)]


def listed(count, gpus=8):
    return [Host(name=f"h{n}", gpus=gpus, line=n + 1) for n in range(count)]


def test_hosts_that_fit_are_no_problem():
    assert said(listed(4)) == []
    assert said(listed(4, gpus=None)) == []


def test_too_few_slots_are_counted_against_the_layout():
    assert said(listed(3)) == [
        (
            "3 hosts with 24 slots, and the run needs 4 (tp 8 x cp 1 x dp 2 x pp 2 = 32 ranks)\n"
            "  add 1 host, or write cluster.hosts: 3"
        )
    ]


def test_more_hosts_than_spares_are_refused():
    one = machine(4, spares=1)

    assert said(listed(5), one) == []
    assert said(listed(4), one) == []
    assert said(listed(6), one) == [
        (
            "6 hosts with 48 slots, and the run needs 4 (tp 8 x cp 1 x dp 2 x pp 2 = 32 ranks and "
            "1 host to spare)\n  write cluster.spares: 2, or cluster.hosts: 6"
        )
    ]


def test_unequal_hosts_are_refused_by_name_and_line():
    hosts = [*listed(3), Host(name="odd", gpus=4, line=4)]

    assert said(hosts)[0] == (
        "line 4: slots=4 on odd (1 host), and dgx-h100 has 8 a host\n"
        "  slots=8, or another cluster.card; hosts are equal"
    )


def test_slots_unlike_the_card_are_refused_even_where_they_add_up():
    """8 hosts of 4 are 32 slots, and yet not 4 hosts of 8."""
    problems = said(listed(8, gpus=4))

    assert problems == [
        (
            "line 1: slots=4 on h[0-7] (8 hosts), and dgx-h100 has 8 a host\n"
            "  slots=8, or another cluster.card; hosts are equal"
        )
    ]


def test_part_of_a_host_is_what_the_run_uses():
    one = machine(1, gpus=4)

    assert "the run uses 4 a host" in said(listed(1), one, Layout(tp=4, pp=1, dp=1))[0]


def test_all_bytes_of_a_ring_are_somewhere():
    layout = Layout(tp=6, pp=1, dp=4)
    load = sent(layout, machine(3), GroupKind.TP)

    assert np.isclose(load.fast.sum() + load.network.sum(), 24 * 800)
