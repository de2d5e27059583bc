"""The order of hosts from the fabric: what it saves, and when it leaves hosts where they are."""

from orchestrator.catalog.cards import accelerator_card, cluster_card
from orchestrator.records.layout import Layout
from orchestrator.records.run import Machine
from orchestrator.topology.address import addressed
from orchestrator.topology.groups import GroupKind
from orchestrator.topology.host_order import best_order
from orchestrator.topology.hosts import Host
from orchestrator.topology.links import Pattern, Traffic
from orchestrator.topology.placement import placed

GRADIENTS = Traffic(kind=GroupKind.DP_CP, pattern=Pattern.RING, sent_bytes=(1000.0,))
ACTIVATIONS = Traffic(kind=GroupKind.PP, pattern=Pattern.NEXT, sent_bytes=(1.0,))


def order(roster, layout, *traffic):
    machine = Machine(
        cluster=cluster_card("dgx-h100"),
        accelerator=accelerator_card("h100-80gb-sxm"),
        hosts=layout.world_size // 8,
        gpus_per_host=8,
    )
    return best_order(traffic or (GRADIENTS, ACTIVATIONS), layout, placed(roster, machine))


def racks(text):
    return [Host(name=f"h{n}", rack=rack) for n, rack in enumerate(text)]


def test_striped_racks_are_gathered():
    """Two replicas of two pipeline ranks: each dp ring fits a rack, and given it fits none."""
    better = order(racks("abab"), Layout(tp=8, pp=2, dp=2))

    assert better.seats == (0, 2, 1, 3)
    assert better.given_bytes == (2 * 2 * 8 * 1000,)
    assert better.bytes == (2 * 2 * 8,)
    assert better.saved_bytes == (32_000 - 32,)


def test_hosts_in_order_stay_where_they_are():
    better = order(racks("aabb"), Layout(tp=8, pp=2, dp=2))

    assert better.seats == (0, 1, 2, 3)
    assert not better.is_better


def test_pipelines_share_a_rack_where_they_send_more():
    heavy = Traffic(kind=GroupKind.PP, pattern=Pattern.NEXT, sent_bytes=(10_000.0,))

    better = order(racks("aabb"), Layout(tp=8, pp=2, dp=2), GRADIENTS, heavy)

    assert better.seats in {(0, 2, 1, 3), (2, 0, 3, 1)}


def test_the_host_that_fits_nowhere_is_left_to_spare():
    better = order(racks("caabb"), Layout(tp=8, pp=2, dp=2))

    assert 0 not in better.seats
    assert better.bytes == (2 * 2 * 8,)


def test_leftovers_of_racks_meet_below_the_next_switch():
    """Racks of 3: two hold a ring of 2 each, and what is left meets in the block."""
    roster = [
        Host(name=f"h{n}", block=block, rack=rack)
        for n, (block, rack) in enumerate(["A1", "B3", "A2", "B4", "A1", "B3", "A2", "B4"] * 2)
        if n not in {8, 9, 10, 11}
    ]

    better = order(roster, Layout(tp=8, pp=6, dp=2), GRADIENTS)

    assert better.bytes[0] == 0
    assert better.bytes[1] < better.given_bytes[1]


def test_leftovers_stay_with_the_whole_units_of_their_block():
    """Rings of 3 in blocks of 7 and 5: one has to go across, more would with all rests last."""
    above = "A2 B2 A0 B0 A0 B2 A2 A1 A1 B1 B2 A0"
    roster = [Host(name=f"h{n}", block=one[0], rack=one) for n, one in enumerate(above.split())]
    heavy = Traffic(kind=GroupKind.DP_CP, pattern=Pattern.RING, sent_bytes=(10_000.0,))
    light = Traffic(kind=GroupKind.PP, pattern=Pattern.NEXT, sent_bytes=(1000.0,))

    better = order(roster, Layout(tp=8, pp=4, dp=3), heavy, light)

    assert better.bytes[0] <= 208_000


def test_hosts_below_one_switch_stay_where_they_are():
    assert order(racks("aaaa"), Layout(tp=8, pp=2, dp=2)).seats == (0, 1, 2, 3)


def test_no_level_gets_worse_even_where_the_sum_would_be_less():
    roster = [
        Host(name=f"h{n}", block=block, rack=f"{block}{n % 3}") for n, block in enumerate("AABBAB")
    ]

    better = order(roster, Layout(tp=8, pp=3, dp=2))

    assert all(saved >= 0 for saved in better.saved_bytes)


def test_the_same_hosts_give_the_same_order():
    roster = racks("cabcabcab")

    assert order(roster, Layout(tp=8, pp=3, dp=3)) == order(roster, Layout(tp=8, pp=3, dp=3))


def environment(value, **more):
    return {"SLURM_TOPOLOGY_ADDR": value, **more}


def test_slurms_addresses_of_all_hosts_become_their_switches():
    found = addressed(racks_without(2), environment=environment("s0.s1.h0\ns0.s2.h1"))

    assert [host.path for host in found.hosts] == [("s0", "s1"), ("s0", "s2")]
    assert found.hosts[0].levels == ("switch level 1", "switch level 2")


def test_the_address_of_one_host_alone_is_not_used_and_says_so():
    found = addressed(
        racks_without(2),
        environment=environment("s0.h0", SLURM_TOPOLOGY_ADDR_PATTERN="switch.node"),
    )

    assert [host.path for host in found.hosts] == [(), ()]
    assert "tells the switches of 1 of 2 hosts" in found.notes[0]
    assert "srun" in found.notes[0]


def test_switches_of_the_hostfile_win_over_the_environment():
    hosts = tuple(racks("ab"))

    assert addressed(hosts, environment=environment("s0.h0 s1.h1")).hosts == hosts


def test_an_address_without_its_pattern_s_parts_is_a_problem():
    found = addressed(
        racks_without(1),
        environment=environment("h0", SLURM_TOPOLOGY_ADDR_PATTERN="switch.switch.node"),
    )

    assert "has not the 3 parts" in str(found.problems[0])


def test_a_cluster_without_a_topology_plugin_tells_nothing():
    env = environment("h0", SLURM_TOPOLOGY_ADDR_PATTERN="node")

    assert addressed(racks_without(1), environment=env).hosts[0].path == ()


def racks_without(count):
    return tuple(Host(name=f"h{n}") for n in range(count))
