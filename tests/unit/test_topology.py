"""The rank map in Megatron's order, and which groups leave a host."""

from orchestrator.catalog.cards import accelerator_card, cluster_card
from orchestrator.records.layout import Layout
from orchestrator.records.run import Machine
from orchestrator.topology.placement import Place, crossing_groups, place_of
from orchestrator.topology.ranks import Coordinate, coordinate_of, groups, stages_of

LAYOUT = Layout(tp=8, cp=2, pp=4, dp=2, vpp=3)
MACHINE = Machine(
    cluster=cluster_card("dgx-h100"),
    accelerator=accelerator_card("h100-80gb-sxm"),
    hosts=16,
    gpus_per_host=8,
)


def test_tp_is_innermost_then_cp_then_dp_then_pp():
    assert coordinate_of(1, LAYOUT) == Coordinate(tp=1, cp=0, dp=0, pp=0)
    assert coordinate_of(8, LAYOUT) == Coordinate(tp=0, cp=1, dp=0, pp=0)
    assert coordinate_of(16, LAYOUT) == Coordinate(tp=0, cp=0, dp=1, pp=0)
    assert coordinate_of(32, LAYOUT) == Coordinate(tp=0, cp=0, dp=0, pp=1)


def test_expert_groups_ignore_the_dense_axes():
    layout = Layout(tp=2, pp=1, dp=4, ep=4, etp=1)

    assert groups(layout, "ep") == ((0, 1, 2, 3), (4, 5, 6, 7))
    assert groups(layout, "edp") == ((0, 4), (1, 5), (2, 6), (3, 7))


def test_a_pipeline_rank_holds_every_pp_th_stage():
    assert stages_of(1, LAYOUT) == (1, 5, 9)


def test_ranks_fill_hosts_in_order():
    assert place_of(17, MACHINE) == Place(host=2, local_rank=1)


def test_tp_of_a_whole_host_does_not_leave_it_and_dp_does():
    assert crossing_groups(LAYOUT, MACHINE, "tp") == ()
    assert len(crossing_groups(LAYOUT, MACHINE, "dp")) == 64
