"""The rank map in Megatron's orders, every group, and where published layouts stand."""

import pytest

from orchestrator.catalog.cards import accelerator_card, cluster_card
from orchestrator.errors import UsageError
from orchestrator.records.layout import Layout
from orchestrator.records.run import Machine
from orchestrator.topology.groups import GroupKind, group_table, kinds_of
from orchestrator.topology.placement import crossing_groups, numbered_hosts, placed
from orchestrator.topology.rank_rows import rank_rows
from orchestrator.topology.ranks import (
    MEGATRON_ORDERS,
    Coordinate,
    RankOrder,
    coordinate_of,
    groups,
    order_problem,
    stages_of,
)
from orchestrator.topology.spans import span_of

LAYOUT = Layout(tp=8, cp=2, pp=4, dp=2, vpp=3)


def machine(hosts, *, card="dgx-h100", spares=0, gpus=None):
    cluster = cluster_card(card)
    return Machine(
        cluster=cluster,
        accelerator=accelerator_card("h100-80gb-sxm"),
        hosts=hosts,
        gpus_per_host=gpus or cluster.gpus_per_host,
        spares=spares,
    )


def on(hosts, **wishes):
    one = machine(hosts, **wishes)
    return placed(numbered_hosts(one), one)


def test_tp_is_innermost_then_cp_then_dp_then_pp():
    assert coordinate_of(1, LAYOUT) == Coordinate(tp=1, cp=0, dp=0, pp=0)
    assert coordinate_of(8, LAYOUT) == Coordinate(tp=0, cp=1, dp=0, pp=0)
    assert coordinate_of(16, LAYOUT) == Coordinate(tp=0, cp=0, dp=1, pp=0)
    assert coordinate_of(32, LAYOUT) == Coordinate(tp=0, cp=0, dp=0, pp=1)


def test_the_example_of_megatrons_docstring():
    """16 GPUs, tp 2, pp 4: the groups that `initialize_model_parallel` lists."""
    layout = Layout(tp=2, pp=4, dp=2)

    assert groups(layout, "dp") == (
        *((0, 2), (1, 3), (4, 6), (5, 7)),
        *((8, 10), (9, 11), (12, 14), (13, 15)),
    )
    assert groups(layout, "tp") == tuple((rank, rank + 1) for rank in range(0, 16, 2))
    assert groups(layout, "pp") == ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15))


def test_the_context_parallel_example_of_megatrons_docstring():
    """8 GPUs, tp 4, cp 2: GPU0-3 and GPU4-7 hold a half of the sequence each."""
    assert groups(Layout(tp=4, cp=2, pp=1, dp=1), "cp") == ((0, 4), (1, 5), (2, 6), (3, 7))


def test_the_order_example_of_megatrons_docstring():
    """`generate_masked_orthogonal_rank_groups`: 8 GPUs, tp-pp-dp, 2-2-2."""
    order = RankOrder("tp-pp-dp")

    assert groups(Layout(tp=2, pp=2, dp=2), "dp", order=order) == ((0, 4), (1, 5), (2, 6), (3, 7))


def test_pipelines_stand_before_replicas_with_the_mapping_flag():
    order = RankOrder(MEGATRON_ORDERS[1])

    assert coordinate_of(16, LAYOUT, order) == Coordinate(tp=0, cp=0, dp=0, pp=1)
    assert coordinate_of(64, LAYOUT, order) == Coordinate(tp=0, cp=0, dp=1, pp=0)


@pytest.mark.parametrize("text", ["tp-dp-qq", "tp-tp-cp-dp-pp", "", "TP-DP-PP"])
def test_what_is_no_order_is_refused(text):
    with pytest.raises(UsageError, match="is no order of ranks"):
        RankOrder(text)


def test_an_order_that_leaves_out_an_axis_in_use_is_a_problem():
    order = RankOrder("tp-dp-pp")

    said = str(order_problem(LAYOUT, order, has_experts=False))
    assert "leaves out cp, which is 2" in said
    assert order_problem(Layout(tp=2, pp=2, dp=2), order, has_experts=True) is None


def test_dense_and_expert_layers_must_share_their_pipelines():
    layout, order = Layout(tp=2, pp=2, dp=4, ep=4, etp=1), RankOrder(MEGATRON_ORDERS[1])

    assert order_problem(layout, RankOrder(), has_experts=True) is None
    assert order_problem(layout, order, has_experts=False) is None
    assert "dp 4" in str(order_problem(layout, order, has_experts=True))


def test_an_order_that_does_not_end_with_pp_wants_the_same_dp_for_experts():
    """Megatron asserts it, though the pipelines of this layout are the same."""
    layout = Layout(tp=4, pp=3, dp=4, ep=2, etp=1)

    assert "expert dp 8" in str(
        order_problem(layout, RankOrder("cp-pp-dp-tp-ep"), has_experts=True)
    )


def test_the_embedding_group_is_the_first_and_the_last_of_a_pipeline():
    table = group_table(Layout(tp=2, pp=4, dp=1), GroupKind.EMBEDDING)

    assert table.tolist() == [[0, 6], [1, 7]]


def test_expert_groups_ignore_the_dense_axes():
    layout = Layout(tp=2, pp=1, dp=4, ep=4, etp=1)

    assert groups(layout, "ep") == ((0, 1, 2, 3), (4, 5, 6, 7))
    assert groups(layout, "edp") == ((0, 4), (1, 5), (2, 6), (3, 7))


SMALL = {
    GroupKind.MODEL: [[0, 1, 4, 5], [2, 3, 6, 7]],
    GroupKind.DP: [[0, 2], [1, 3], [4, 6], [5, 7]],
    GroupKind.DP_CP: [[0, 2], [1, 3], [4, 6], [5, 7]],
    GroupKind.TP_CP: [[0, 1], [2, 3], [4, 5], [6, 7]],
    GroupKind.TP_DP_CP: [[0, 1, 2, 3], [4, 5, 6, 7]],
    GroupKind.EMBEDDING: [[0, 4], [1, 5], [2, 6], [3, 7]],
    GroupKind.POSITION_EMBEDDING: [[0], [1], [2], [3]],
    GroupKind.EP: [[0, 1], [2, 3], [4, 5], [6, 7]],
    GroupKind.EXPERT_TP: [[rank] for rank in range(8)],
    GroupKind.EXPERT_TP_EP: [[0, 1], [2, 3], [4, 5], [6, 7]],
    GroupKind.EXPERT_MODEL: [[0, 1, 4, 5], [2, 3, 6, 7]],
    GroupKind.EXPERT_DP: [[0, 2], [1, 3], [4, 6], [5, 7]],
    GroupKind.SHARD: [[0], [2], [1], [3], [4], [6], [5], [7]],
    GroupKind.REPLICA: [[0, 2], [1, 3], [4, 6], [5, 7]],
    GroupKind.WORLD: [[0, 1, 2, 3, 4, 5, 6, 7]],
}


@pytest.mark.parametrize("kind", SMALL)
def test_every_group_of_eight_ranks(kind):
    layout = Layout(tp=2, pp=2, dp=2, ep=2, etp=1, zero_replicas=2)

    assert group_table(layout, kind).tolist() == SMALL[kind]


def test_an_only_pipeline_rank_holds_both_embeddings():
    assert group_table(Layout(tp=2, pp=1, dp=1), GroupKind.EMBEDDING).tolist() == [[0], [1]]


def test_replicas_of_a_shard_are_cut_as_megatron_cuts_them():
    """dp 8 in 2 replicas: shards are neighbours, replicas stand apart."""
    layout = Layout(tp=1, pp=1, dp=8, zero_replicas=2)

    assert group_table(layout, GroupKind.SHARD).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert group_table(layout, GroupKind.REPLICA).tolist() == [[0, 4], [1, 5], [2, 6], [3, 7]]


def test_groups_of_one_rank_and_of_absent_experts_do_not_matter():
    kinds = kinds_of(Layout(tp=8, pp=1, dp=2), has_experts=False)

    assert GroupKind.TP in kinds
    assert not {GroupKind.PP, GroupKind.EP, GroupKind.EXPERT_DP, GroupKind.SHARD} & set(kinds)


def test_a_pipeline_rank_holds_every_pp_th_stage():
    assert stages_of(1, LAYOUT) == (1, 5, 9)


def test_ranks_fill_hosts_in_order():
    placement = on(16)

    assert (placement.seat[17], placement.local_rank[17], placement.rail[17]) == (2, 1, 1)


def test_tp_of_a_whole_host_does_not_leave_it_and_dp_does():
    assert crossing_groups(LAYOUT, machine(16), "tp") == ()
    assert len(crossing_groups(LAYOUT, machine(16), "dp")) == 64


LLAMA_405B = {
    "8192 GPUs, 8K": (Layout(tp=8, cp=1, pp=16, dp=64), 8192, 8192, 32),
    "16384 GPUs, 8K": (Layout(tp=8, cp=1, pp=16, dp=128), 16384, 8192, 16),
    "16384 GPUs, 131K": (Layout(tp=8, cp=16, pp=16, dp=8), 16384, 131_072, 16),
}


@pytest.mark.parametrize("case", LLAMA_405B)
def test_the_layouts_of_llama_3_405b_multiply_to_16m_tokens_on_whole_hosts(case):
    """Llama 3 paper (arXiv 2407.21783), table 4: 16M tokens a batch, tp inside a host."""
    layout, world, sequence, batch_per_dp = LLAMA_405B[case]
    placement = on(world // 8)

    spans = {
        kind: span_of(kind, layout, placement)
        for kind in (GroupKind.TP, GroupKind.CP, GroupKind.DP_CP, GroupKind.PP, GroupKind.MODEL)
    }

    assert layout.world_size == world
    assert layout.dp * batch_per_dp * sequence == 2**24
    assert spans[GroupKind.TP].across_hosts == 0
    assert spans[GroupKind.PP].hosts == 16
    assert spans[GroupKind.PP].across_hosts == spans[GroupKind.PP].groups == world // 16
    assert spans[GroupKind.CP].across_hosts == (1024 if layout.cp > 1 else 0)
    assert spans[GroupKind.DP_CP].hosts == spans[GroupKind.DP_CP].size == layout.dp * layout.cp
    assert all(span.across_rails == 0 for span in spans.values())


def test_the_garbled_layout_multiplies_out_with_dp_8_alone():
    fitting = [
        dp
        for dp in range(1, 129)
        if Layout(tp=8, cp=16, pp=16, dp=dp).world_size == 16_384 and dp * 16 * 131_072 == 2**24
    ]

    assert fitting == [8]


def test_175b_as_dp_16_tp_8_pp_8_on_128_hosts():
    """Pipeline rank p fills hosts 16 p to 16 p + 15, a replica a host."""
    layout, placement = Layout(tp=8, pp=8, dp=16), on(128)

    assert span_of(GroupKind.TP, layout, placement).across_hosts == 0
    assert span_of(GroupKind.DP, layout, placement).hosts == 16
    assert groups(layout, "pp")[0] == tuple(range(0, 1024, 128))
    assert [(row.hosts, row.first_rank) for row in rank_rows(layout, placement)][:2] == [
        ("host[000-015]", 0),
        ("host[016-031]", 128),
    ]


def test_tensor_parallelism_that_does_not_fit_a_host_goes_across_rails():
    span = span_of(GroupKind.TP, Layout(tp=6, pp=1, dp=4), on(3))

    assert (span.hosts, span.across_hosts, span.across_rails) == (2, 2, 2)


def test_tensor_parallelism_over_two_whole_hosts_stays_on_its_rails():
    span = span_of(GroupKind.TP, Layout(tp=16, pp=1, dp=2), on(4))

    assert (span.across_hosts, span.across_rails) == (2, 0)


def test_experts_that_send_to_all_go_across_rails_once_they_leave_a_host():
    span = span_of(GroupKind.EP, Layout(tp=1, pp=1, dp=16, ep=16), on(2))

    assert (span.across_hosts, span.across_rails) == (1, 1)


def test_a_domain_of_hosts_keeps_tp_off_the_network():
    """NVL72: 18 hosts of 4 share their fast links."""
    span = span_of(GroupKind.TP, Layout(tp=8, pp=1, dp=9), on(18, card="gb200-nvl72"))

    assert (span.across_hosts, span.across_domains, span.across_rails) == (9, 0, 0)


def test_groups_that_stay_on_fast_links_go_across_no_rail():
    span = span_of(GroupKind.TP, Layout(tp=6, pp=1, dp=2), on(3, card="gb200-nvl72"))

    assert (span.across_hosts, span.across_domains, span.across_rails) == (2, 0, 0)


def test_a_small_rank_map_has_a_row_a_host():
    rows = rank_rows(Layout(tp=2, pp=2, dp=4), on(2))

    assert [(row.hosts, row.first_rank, row.last_rank, row.axes) for row in rows] == [
        ("host0", 0, 7, (*_dense("0-1", "0-3", "0"), *_expert("0-7", "0"))),
        ("host1", 8, 15, (*_dense("0-1", "0-3", "1"), *_expert("0-7", "1"))),
    ]


def _dense(tp, dp, pp):
    return (("tp", tp), ("cp", "0"), ("dp", dp), ("pp", pp))


def _expert(edp, pp):
    return (("etp", "0"), ("ep", "0"), ("edp", edp))
