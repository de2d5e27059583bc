"""The collectives of one step, counted: by hand where that is possible, by laws elsewhere.

`tests/engine/test_engine_check.py` holds them against what Megatron-Core calls.
"""

import pytest

from orchestrator import api
from orchestrator.cost.collective import Axis, Collective, Kind, merged
from orchestrator.cost.share import held_parameters, shares_of
from orchestrator.cost.tensors import stage_tensors
from orchestrator.cost.traffic import traffic_of, uncounted
from orchestrator.cost.workload import workload_of
from orchestrator.errors import UsageError
from orchestrator.schedules import stages

# Llama 3.1 405B, 126 layers as 7 + 14 x 8 + 7, on 16,384 accelerators; 16 microbatches.
LLAMA = """
schema: 1
name: x
model: llama-3.1-405b
cluster: {card: dgx-h200, hosts: 2048}
training: {sequence_length: 8192, global_batch_size: 2048, steps: 10, precision: bf16}
layout: {tp: 8, pp: 16, sequence_parallel: true, stage_layout: "Et*7|(t*8|)*14,t*7L"}
"""
WHOLE_BYTES = 8192 * 16384 * 2
MIXTRAL = """
schema: 1
name: y
model: mixtral-8x22b
cluster: {card: dgx-h200, hosts: 16}
training: {sequence_length: 4096, global_batch_size: 128, steps: 10, precision: bf16}
layout: {tp: 4, pp: 4, ep: 8, etp: 1, sequence_parallel: true}
"""


def run_of(text, **layout):
    for key, value in layout.items():
        text = text.replace("layout: {", f"layout: {{{key}: {value}, ")
    return api.read_run(text, file="run.yaml")


def calls(run, *, pp_rank, axis):
    """Return how often a rank makes each call over an axis: (kind, payload bytes) -> calls."""
    counts = {}
    for one in traffic_of(run, run.layout, pp_rank=pp_rank).of(axis):
        key = (one.kind, one.payload_bytes)
        counts[key] = counts.get(key, 0) + one.calls
    return counts


def test_a_stage_with_sequence_parallelism_gathers_six_times_and_scatters_four_times_a_layer():
    middle = calls(run_of(LLAMA), pp_rank=5, axis=Axis.TP)

    assert middle[Kind.ALL_GATHER, WHOLE_BYTES // 8] == 6 * 8 * 16
    assert middle[Kind.REDUCE_SCATTER, WHOLE_BYTES] == 4 * 8 * 16


def test_the_first_stage_adds_the_embedding_and_the_last_logits_and_three_sums_of_the_loss():
    first = calls(run_of(LLAMA), pp_rank=0, axis=Axis.TP)
    last = calls(run_of(LLAMA), pp_rank=15, axis=Axis.TP)

    assert first[Kind.ALL_GATHER, WHOLE_BYTES // 8] == (6 * 7 + 1) * 16
    assert first[Kind.REDUCE_SCATTER, WHOLE_BYTES] == (4 * 7 + 1) * 16
    assert last[Kind.ALL_GATHER, WHOLE_BYTES // 8] == (6 * 7 + 2) * 16
    assert last[Kind.ALL_REDUCE, 8192 * 4] == 3 * 16


def test_without_sequence_parallelism_a_layer_sums_four_times():
    run = run_of(LLAMA.replace("sequence_parallel: true", "sequence_parallel: false"))

    assert calls(run, pp_rank=5, axis=Axis.TP) == {(Kind.ALL_REDUCE, WHOLE_BYTES): 4 * 8 * 16}


def test_full_recomputation_repeats_the_forward_collectives():
    run = run_of(LLAMA, recompute="{granularity: full}")
    middle = calls(run, pp_rank=5, axis=Axis.TP)

    assert middle[Kind.ALL_GATHER, WHOLE_BYTES // 8] == 8 * 8 * 16
    assert middle[Kind.REDUCE_SCATTER, WHOLE_BYTES] == 6 * 8 * 16


@pytest.mark.parametrize(("pp_rank", "sends", "receives"), [(0, 16, 16), (7, 32, 32), (15, 16, 16)])
def test_a_pipeline_rank_passes_on_a_tp_share_of_each_microbatch(pp_rank, sends, receives):
    assert calls(run_of(LLAMA), pp_rank=pp_rank, axis=Axis.PP) == {
        (Kind.SEND, WHOLE_BYTES // 8): sends,
        (Kind.RECEIVE, WHOLE_BYTES // 8): receives,
    }


def test_what_stages_send_is_what_their_neighbours_receive():
    text = LLAMA.replace("Et*7|(t*8|)*14,t*7L", "E|(t|)*126,L")
    run = run_of(text, vpp=8)
    sent, received = {}, {}
    for rank in range(16):
        for one in traffic_of(run, run.layout, pp_rank=rank).of(Axis.PP):
            if one.kind is Kind.SEND:
                to = (rank + one.offset) % 16
                sent[to, one.purpose] = sent.get((to, one.purpose), 0) + one.bytes
            else:
                received[rank, one.purpose] = received.get((rank, one.purpose), 0) + one.bytes

    assert sent == received
    assert sum(sent.values()) == 2 * 127 * 16 * WHOLE_BYTES // 8


def test_zero_1_scatters_padded_gradients_and_gathers_parameters_once():
    run = run_of(LLAMA)
    held = held_of(run, 5)
    padded = -(-held // 128) * 128

    assert calls(run, pp_rank=5, axis=Axis.DP) == {
        (Kind.REDUCE_SCATTER, 4 * padded): 1,
        (Kind.ALL_GATHER, 2 * padded // 128): 1,
    }


def test_zero_0_sums_all_gradients_and_gathers_nothing():
    run = run_of(LLAMA, zero_stage=0)

    assert calls(run, pp_rank=5, axis=Axis.DP) == {(Kind.ALL_REDUCE, 4 * held_of(run, 5)): 1}


def test_a_tied_embedding_is_summed_between_first_and_last_stage_and_is_a_bucket_of_its_own():
    text = LLAMA.replace("llama-3.1-405b", "gpt3-175b").replace("8192", "2048")
    text = text.replace('stage_layout: "Et*7|(t*8|)*14,t*7L"', "vpp: 1")
    run = api.read_run(text, file="run.yaml")
    rows = -(-50257 // 1024) * 1024 // 8
    tied = (Kind.ALL_REDUCE, rows * 12288 * 4)

    assert calls(run, pp_rank=0, axis=Axis.EMBEDDING) == {tied: 1}
    assert calls(run, pp_rank=15, axis=Axis.EMBEDDING) == {tied: 1}
    assert calls(run, pp_rank=7, axis=Axis.EMBEDDING) == {}
    assert len(calls(run, pp_rank=0, axis=Axis.DP)) == 4


def test_experts_exchange_balanced_rows_and_reduce_over_their_own_replicas():
    run = run_of(MIXTRAL)
    rows = 4096 // 4 * 2  # tokens of a tp share, two experts each
    exchange = calls(run, pp_rank=1, axis=Axis.EP)
    layers, microbatches = 56 // 4, 128 // 8

    assert exchange[Kind.ALL_TO_ALL, rows * 6144 * 2] == 4 * layers * microbatches
    assert exchange[Kind.ALL_TO_ALL, rows * 2] == 2 * layers * microbatches
    assert {kind for kind, _ in calls(run, pp_rank=1, axis=Axis.EXPERT_DP)} == {
        Kind.REDUCE_SCATTER,
        Kind.ALL_GATHER,
    }


@pytest.mark.parametrize(
    ("how", "forward", "backward"), [("p2p", 3, 5), ("allgather", 2, 4), ("a2a", 4, 4)]
)
def test_context_parallelism_moves_keys_and_values_as_transformer_engine_does(
    how, forward, backward
):
    text = LLAMA.replace("tp: 8", "tp: 2").replace("dgx-h200, hosts: 2048", "dgx-h200, hosts: 512")
    run = run_of(text.replace("8192", "131072"), cp=4, cp_comm_type=how)
    found = traffic_of(run, run.layout, pp_rank=5).of(Axis.CP)
    made = sum(one.calls for one in found if one.kind is not Kind.RECEIVE)

    # In the ring, backward, keys and values travel with gradients in one message but at its ends.
    expected = forward + (4 if how == "p2p" else backward)
    assert made == expected * 8 * run.layout.num_microbatches(2048)


def test_ring_bytes_are_three_blocks_forward_and_twice_that_backward():
    run = run_of(LLAMA.replace("8192", "131072"), cp=4)
    block = 131072 // 4 * 2 * 128 * 2  # keys and values of one group of heads, BF16
    sent = [
        one for one in traffic_of(run, run.layout, pp_rank=5).of(Axis.CP) if one.kind is Kind.SEND
    ]

    layers = 8 * run.layout.num_microbatches(2048)
    assert sum(one.bytes for one in sent) == 9 * block * layers


@pytest.mark.parametrize(
    "text",
    [LLAMA, MIXTRAL, LLAMA.replace("llama-3.1-405b", "gpt3-175b").replace("8192", "2048")],
    ids=["llama", "mixtral", "gpt3"],
)
def test_the_tensors_of_stages_sum_to_the_parameters_that_ranks_hold(text):
    text = text.replace("Et*7|(t*8|)*14,t*7L", "Et*6|(t*6|)*14,t*6L") if "gpt3" in text else text
    run = run_of(text)
    layout, workload = run.layout, workload_of(run)
    shape = workload.shape
    placed = stages.layout_of(
        layout.stage_layout, num_layers=shape.num_layers, num_stages=layout.num_stages
    ).stages
    first = 0
    for stage, share in zip(placed, shares_of(shape, layout), strict=True):
        tensors = stage_tensors(
            shape,
            layout,
            stage,
            first_layer=first,
            vocab=workload.padded_vocab(layout.tp),
        )
        first += stage.decoder_layers
        held = held_parameters(workload, layout, share)
        assert sum(one.elements for one in tensors if not one.is_expert) == held.dense
        assert sum(one.elements for one in tensors if one.is_expert) == held.expert


@pytest.mark.parametrize(
    ("kind", "sent"),
    [
        (Kind.ALL_REDUCE, 1.5 * 800),
        (Kind.ALL_GATHER, 3 * 800),
        (Kind.REDUCE_SCATTER, 0.75 * 800),
        (Kind.ALL_TO_ALL, 0.75 * 800),
        (Kind.SEND, 800),
        (Kind.RECEIVE, 0),
    ],
)
def test_a_payload_leaves_the_rank_as_its_kind_says(kind, sent):
    one = Collective(axis=Axis.TP, kind=kind, purpose="x", group_size=4, calls=2, payload_bytes=400)

    assert one.sent_bytes == sent


def test_groups_of_one_rank_are_left_out_and_equal_calls_counted_together():
    one = Collective(
        axis=Axis.TP, kind=Kind.SEND, purpose="x", group_size=2, calls=2, payload_bytes=4
    )
    alone = Collective(
        axis=Axis.CP, kind=Kind.SEND, purpose="x", group_size=1, calls=2, payload_bytes=4
    )

    assert merged([one, alone, one]) == (one.times(2),)


@pytest.mark.parametrize(
    ("change", "name"),
    [({"zero_stage": 2}, "ZeRO stage 2"), ({"zero_replicas": 2}, "zero_replicas")],
)
def test_what_is_not_counted_is_named(change, name):
    from dataclasses import replace

    run = run_of(LLAMA)
    layout = replace(run.layout, **change)

    assert any(name in text for text in uncounted(run, layout))
    with pytest.raises(UsageError, match="not counted one by one"):
        traffic_of(run, layout, pp_rank=0)


def held_of(run, pp_rank):
    workload = workload_of(run)
    share = shares_of(workload.shape, run.layout)[pp_rank]
    return held_parameters(workload, run.layout, share).total
