"""Bandwidth by group, and what overlap hides."""

from dataclasses import replace

import pytest

from orchestrator.catalog.resolve import resolve
from orchestrator.cost import communication
from orchestrator.cost.communication import Ring, bandwidth, hop_bandwidth, ring_s
from orchestrator.cost.parameters import Held
from orchestrator.cost.shape import LayerKind
from orchestrator.cost.slice import slice_of
from orchestrator.cost.workload import Workload, workload_of
from orchestrator.records.layout import Layout
from orchestrator.specs.choices import OverlapAxis, ScheduleKind
from orchestrator.specs.cluster import ClusterSpec
from orchestrator.specs.run import RunSpec
from orchestrator.specs.training import TrainingSpec

TP8 = Layout(tp=8, pp=1, dp=8, sequence_parallel=True, overlap=(OverlapAxis.DP, OverlapAxis.TP))


def _workload(model: str = "llama-3.1-8b") -> Workload:
    training = TrainingSpec(sequence_length=8192, global_batch_size=64, steps=1)
    cluster = ClusterSpec(card="dgx-h100", gpus=64)
    spec = RunSpec(schema=1, name="x", model=model, cluster=cluster, training=training)
    return workload_of(resolve(spec, file="x"))


@pytest.mark.parametrize(
    ("size", "stride", "gigabytes"),
    [
        pytest.param(8, 1, 450, id="inside a host: fast links"),
        pytest.param(8, 8, 50, id="one member a host: one adapter"),
        pytest.param(16, 4, 100, id="two members a host: two adapters"),
        pytest.param(64, 1, 400, id="all members of a host: its eight adapters"),
    ],
)
def test_a_group_has_the_links_of_its_members_on_a_host(size: int, stride: int, gigabytes: float):
    rate = bandwidth(_workload().fabric, Ring(size=size, stride=stride))

    assert rate == pytest.approx(gigabytes * 1e9)


def test_neighbours_on_two_hosts_have_one_adapter():
    assert hop_bandwidth(_workload().fabric, Ring(size=16, stride=4)) == pytest.approx(50e9)


def test_a_ring_moves_all_but_its_own_part():
    workload = _workload()
    efficiency = workload.chip.efficiency

    duration_s = ring_s(workload, Ring(size=8, stride=1), 450e9)

    assert duration_s == pytest.approx(
        7 / 8 / efficiency.link_share + efficiency.collective_latency_s
    )


def test_a_group_of_one_moves_nothing():
    assert ring_s(_workload(), Ring(size=1, stride=1), 1e9) == 0


def test_a_layer_gathers_and_scatters_around_attention_and_mlp():
    workload = _workload()
    part = slice_of(workload, TP8)
    once = ring_s(workload, Ring(size=8, stride=1), 2 * 8192 * 4096)

    assert communication.tp_forward_s(workload, part, kind=LayerKind.DENSE) == 4 * once


def test_tensor_parallel_overlap_needs_sequence_parallelism():
    assert communication.tp_exposed(TP8) == communication.TP_EXPOSED
    assert communication.tp_exposed(replace(TP8, sequence_parallel=False)) == 1
    assert communication.tp_exposed(replace(TP8, overlap=())) == 1


def test_zero_1_moves_fewer_bytes_than_an_all_reduce():
    workload, held = _workload(), Held(dense=10**9, expert=0)

    reduced, sharded = (
        communication.dp_step_s(workload, replace(TP8, zero_stage=stage), held) for stage in (0, 1)
    )

    # 2 x 4 bytes against 4 + 2.
    assert sharded / reduced == pytest.approx(6 / 8, rel=0.01)


def test_overlap_hides_most_of_the_gradients():
    workload, held = _workload(), Held(dense=10**9, expert=0)

    hidden = communication.dp_step_s(workload, TP8, held)
    bare = communication.dp_step_s(workload, replace(TP8, overlap=()), held)

    assert hidden / bare == pytest.approx(communication.DP_EXPOSED / communication.DP_UNOVERLAPPED)


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

    two_chunks, one_chunk = (
        communication.pp_microbatch_s(workload, layout, slice_of(workload, layout))
        for layout in (interleaved, plain)
    )

    assert two_chunks / one_chunk == pytest.approx(2 * communication.PP_EXPOSED)


def test_experts_on_one_host_exchange_over_its_fast_links():
    workload = _workload("mixtral-8x7b")
    near, far = (Layout(tp=tp, pp=1, dp=64 // tp, ep=8, etp=tp) for tp in (1, 8))

    near_s, far_s = (
        communication.ep_forward_s(workload, slice_of(workload, layout)) for layout in (near, far)
    )

    assert far_s > 5 * near_s
