"""Which bytes go over which links, and what of them overlap hides."""

from dataclasses import replace

import pytest

from orchestrator.catalog.resolve import resolve
from orchestrator.cost import exchange
from orchestrator.cost.compose import MEMBERSHIP
from orchestrator.cost.exchange import Carried, Ring, far_copies, gathered, hides_tp, passed
from orchestrator.cost.parameters import Held
from orchestrator.cost.quantity import Quantity
from orchestrator.cost.shape import LayerKind
from orchestrator.cost.slice import slice_of
from orchestrator.cost.software import Software
from orchestrator.cost.step import cost_of, hop_s, table
from orchestrator.cost.workload import Workload, workload_of
from orchestrator.records.layout import Layout
from orchestrator.specs.choices import OverlapAxis, ScheduleKind
from orchestrator.specs.cluster import ClusterSpec
from orchestrator.specs.run import RunSpec
from orchestrator.specs.training import TrainingSpec

TP8 = Layout(tp=8, pp=1, dp=8, sequence_parallel=True, overlap=(OverlapAxis.DP, OverlapAxis.TP))


def _workload(model: str = "llama-3.1-8b", *, batch: int = 64) -> Workload:
    training = TrainingSpec(sequence_length=8192, global_batch_size=batch, steps=1)
    cluster = ClusterSpec(card="dgx-h100", gpus=64)
    spec = RunSpec(schema=1, name="x", model=model, cluster=cluster, training=training)
    return workload_of(resolve(spec, file="x"))


@pytest.mark.parametrize(
    ("size", "stride", "near", "far"),
    [
        pytest.param(8, 1, 7 / 8, 0, id="inside a host: fast links"),
        pytest.param(8, 8, 0, 7 / 8, id="one member a host: one adapter"),
        pytest.param(16, 4, 0, 15 / 16 / 2, id="two members a host: two adapters"),
        pytest.param(64, 1, 0, 63 / 64 / 8, id="all members of a host: its eight adapters"),
    ],
)
def test_a_group_has_the_links_of_its_members_on_a_host(
    size: int, stride: int, near: float, far: float
):
    carried = gathered(_workload().fabric, Ring(size=size, stride=stride), 1.0)

    assert carried == Carried(near=near, far=far, calls=1)


def test_adapters_never_carry_more_than_the_fast_links_feed_them():
    fabric = replace(_workload().fabric, network_bytes_per_s=100e9)

    carried = gathered(fabric, Ring(size=64, stride=1), 1.0)

    assert carried == Carried(near=63 / 64, calls=1)


def test_neighbours_on_two_hosts_have_one_adapter():
    assert passed(_workload().fabric, Ring(size=16, stride=4), 5.0) == Carried(far=5.0, calls=1)


def test_a_group_of_one_moves_nothing():
    assert gathered(_workload().fabric, Ring(size=1, stride=1), 1e9) == Carried()


def test_a_layer_gathers_and_scatters_around_attention_and_mlp():
    workload = _workload()
    part = slice_of(workload, TP8)

    bill = exchange.tp_bill(workload, part, kind=LayerKind.DENSE, hidden=False)

    assert bill[Quantity.TP_NEAR_BYTES] == 4 * 7 / 8 * 2 * 8192 * 4096
    assert bill[Quantity.TP_CALLS] == 4


def test_tensor_parallel_overlap_needs_sequence_parallelism():
    assert hides_tp(TP8)
    assert not hides_tp(replace(TP8, sequence_parallel=False))
    assert not hides_tp(replace(TP8, overlap=()))


def test_overlap_hides_most_of_the_tensor_parallel_collectives():
    workload = _workload()

    hidden, bare = (
        cost_of(workload, layout).tp_comm_s
        for layout in (TP8, replace(TP8, overlap=(OverlapAxis.DP,)))
    )

    assert hidden / bare == pytest.approx(workload.calibration.value("exposed.tp"))


def test_zero_1_moves_fewer_bytes_than_an_all_reduce():
    workload, held = _workload(), Held(dense=10**9, expert=0)

    reduced, sharded = (
        exchange.replica_bill(workload, replace(TP8, zero_stage=stage), held) for stage in (0, 1)
    )

    # Gradients in FP32 twice, against once and parameters in BF16.
    moved = (Quantity.GRADIENT_FAR_BYTES, Quantity.PARAMETER_FAR_BYTES)
    assert sum(sharded[q] for q in moved) / sum(reduced[q] for q in moved) == pytest.approx(6 / 8)


def test_gradients_that_outlast_the_backward_show_however_they_overlap():
    long, short = (_workload(batch=batch) for batch in (512, 64))
    slow = replace(long.fabric, network_bytes_per_s=0.05e9)
    layout = Layout(tp=1, pp=1, dp=64, overlap=(OverlapAxis.DP,))

    hidden = cost_of(short, layout).dp_comm_s
    shown = cost_of(replace(short, fabric=slow), layout).dp_comm_s

    # A thousand times slower links show more than a thousand times: what was hidden no more is.
    assert shown > 1000 * hidden


def test_fsdp_gathers_in_every_microbatch():
    held = Held(dense=10**9, expert=0)
    layout = Layout(tp=1, pp=1, dp=64, zero_stage=3)

    bill = exchange.replica_bill(_workload(), layout, held)

    # Parameters in BF16 twice and gradients in FP32, over the eight adapters of a host.
    assert bill[Quantity.GATHER_FAR_BYTES] == pytest.approx(63 / 64 * 8e9 / 8)
    assert bill[Quantity.GRADIENT_FAR_BYTES] == 0


def test_replicas_of_shards_reduce_once_a_step_between_them():
    held = Held(dense=10**9, expert=0)
    layout = Layout(tp=1, pp=1, dp=64, zero_stage=3, zero_replicas=8)

    bill = exchange.replica_bill(_workload(), layout, held)

    assert bill[Quantity.GATHER_NEAR_BYTES] == pytest.approx(7 / 8 * 8e9)
    assert bill[Quantity.GRADIENT_FAR_BYTES] == pytest.approx(2 * 7 / 8 * 4e9 / 8)


def test_1f1b_cannot_hide_its_sends():
    workload = _workload()
    interleaved = Layout(
        tp=1,
        pp=4,
        dp=16,
        vpp=2,
        schedule=ScheduleKind.INTERLEAVED,
        overlap=(OverlapAxis.PP,),
    )
    plain = replace(interleaved, vpp=1, schedule=ScheduleKind.ONE_F_ONE_B)

    hidden_s, bare_s = hop_s(workload, interleaved), hop_s(workload, plain)

    assert hidden_s < 0.5 * bare_s


def test_experts_on_one_host_exchange_over_its_fast_links():
    workload = _workload("mixtral-8x7b")
    near, far = (Layout(tp=tp, pp=1, dp=64 // tp, ep=8, etp=tp) for tp in (1, 8))

    near_s, far_s = (
        float(exchange.ep_bill(workload, slice_of(workload, layout)) @ table(workload).unit[0])
        for layout in (near, far)
    )

    assert far_s > 5 * near_s


def test_a_token_sent_once_to_a_host_crosses_the_network_less_often():
    assert far_copies(8, domains=8, once=False) == 7
    assert far_copies(8, domains=8, once=True) == pytest.approx(7 * (1 - (7 / 8) ** 8))
    assert far_copies(1, domains=4, once=True) == far_copies(1, domains=4, once=False)


def test_a_limit_on_groups_bounds_the_hosts_of_a_token():
    workload = replace(_workload("deepseek-v3"), software=Software(sends_once=True))
    layout = Layout(tp=1, pp=1, dp=64, ep=64)
    free = replace(workload, shape=replace(workload.shape, group_limit=0))

    limited, unlimited = (
        exchange.ep_bill(one, slice_of(one, layout))[Quantity.EP_FAR_BYTES]
        for one in (workload, free)
    )

    assert limited == pytest.approx(unlimited * 4 / far_copies(8, domains=8, once=True))


def test_every_quantity_belongs_to_one_part_of_a_step():
    assert (MEMBERSHIP.sum(axis=1) == 1).all()
