"""What a measured row says, what is guessed, and what is refused."""

import pytest

from orchestrator.cost.rows.observation import observation_of
from orchestrator.cost.rows.row import Row, Unreadable, rows_of
from orchestrator.cost.software import AttentionKernel, Graphs, MatmulFormat
from orchestrator.specs.choices import OverlapAxis, RecomputeGranularity, ScheduleKind

LLAMA = {
    "id": "a",
    "gpu": "H100-SXM-80GB",
    "gpus": "64",
    "model": "llama3-70b",
    "seq_len": "8192",
    "global_batch": "128",
    "micro_batch": "1",
    "tp": "4",
    "pp": "4",
    "vpp": "5",
    "cp": "2",
    "framework": "NeMo 24.09",
    "precision": "fp8",
    "recompute": "none",
    "measured_step_time_s": "10.46",
}


def _seen(**cells: str):
    return observation_of(Row(cells={**LLAMA, **cells}))


def test_a_full_row_says_machine_model_layout_and_software():
    seen = _seen()

    assert seen.workload.accelerator.name == "h100-80gb-sxm"
    assert seen.workload.shape.num_layers == 80
    assert (seen.layout.tp, seen.layout.cp, seen.layout.pp, seen.layout.dp) == (4, 2, 4, 2)
    assert seen.layout.schedule is ScheduleKind.INTERLEAVED
    assert seen.workload.matmul_format is MatmulFormat.FP8
    assert seen.workload.software.family == "megatron-core"
    assert seen.workload.software.release == pytest.approx(2024.71, abs=0.01)
    assert seen.measured_s == 10.46
    assert seen.kind == "dense H100"


def test_tokens_a_second_stand_for_a_step_time():
    seen = _seen(measured_step_time_s="", measured_tokens_per_s_per_gpu="1566.5")

    assert seen.measured_s == pytest.approx(10.46, abs=0.005)


def test_what_is_left_out_is_guessed_and_told():
    seen = _seen(vpp="", recompute="", precision="")

    assert "vpp 10" in seen.assumed
    assert "no recomputation" in seen.assumed
    assert "precision bf16" in seen.assumed
    assert seen.layout.vpp == 10


def test_one_f_one_b_of_megatron_lm_stays_without_chunks():
    seen = _seen(vpp="", schedule="1f1b", framework="Megatron-LM 23e00ed")

    assert seen.layout.vpp == 1


def test_a_row_that_ran_recomputed_what_would_not_fit():
    seen = _seen(gpus="64", tp="1", cp="1", pp="1", vpp="", sharding="fsdp", recompute="",
                 micro_batch="2", framework="NeMo AutoModel (PyTorch FSDP2)")  # fmt: skip

    assert seen.layout.recompute.granularity is not RecomputeGranularity.NONE
    assert any("would not fit" in text or "nothing else would fit" in text for text in seen.assumed)


def test_stated_recomputation_is_taken_as_it_is():
    seen = _seen(recompute="selective:mla_up_proj+moe_act")

    assert seen.layout.recompute.modules == ("mla_up_proj", "moe_act")


def test_tp_overlap_is_megatrons_and_can_be_told_off():
    assert OverlapAxis.TP in _seen().layout.overlap
    assert OverlapAxis.TP not in _seen(notes="TP comm overlap off in YAML").layout.overlap
    assert OverlapAxis.TP not in _seen(framework="llm-foundry").layout.overlap


def test_software_of_other_families():
    assert _seen(framework="llm-foundry").workload.software.attention is AttentionKernel.TRITON
    assert _seen(framework="MaxText (JAX)").workload.software.graphs is Graphs.FULL
    unheard = _seen(framework="Foo 1.0")
    assert unheard.workload.software.family == "foo"
    assert "framework family foo" in unheard.assumed


def test_a_model_outside_the_catalog_is_made_of_its_sizes():
    seen = _seen(model="mpt-7b", layers="32", hidden="4096", heads="32", ffn_hidden="16384",
                 vocab="50368", tp="1", cp="1", pp="1", vpp="")  # fmt: skip

    assert (seen.workload.shape.hidden, seen.workload.shape.gated) == (4096, False)
    assert "kv_heads 32, as many as heads" in seen.assumed


def test_the_parameters_tell_whether_an_unknown_mlp_has_a_gate():
    sizes = {"model": "nobody", "layers": "32", "hidden": "4096", "heads": "32", "vocab": "32000",
             "ffn_hidden": "11008", "tp": "1", "cp": "1", "pp": "1", "vpp": ""}  # fmt: skip

    assert _seen(**sizes, params_b="6.74").workload.shape.gated
    assert not _seen(**sizes, params_b="5.0").workload.shape.gated


def test_a_board_with_less_power_and_slower_memory_is_read():
    card = _seen(gpu="H100-SXM-96GB-HBM2e-500W").workload.accelerator

    assert (card.power_w, card.memory_bandwidth_tb_per_s) == (500, 2.4)
    assert card.memory_gib == pytest.approx(95.5, abs=0.1)


@pytest.mark.parametrize(
    ("text", "gbit"),
    [
        ("RoCE 1600 Gb/s per node", 200),
        ("4x100 Gb/s RoCE per node", 50),
        ("RDMA 400 Gb/s per GPU", 400),
        ("Omni-Path, 4 links/node", 50),
        ("", 400),
    ],
)
def test_networks(text: str, gbit: float):
    fabric = _seen(interconnect=text).workload.fabric

    assert fabric.network_bytes_per_s == gbit * 1e9 / 8


def test_racks_have_domains_of_72():
    seen = _seen(gpu="GB200-NVL72-192GB", gpus_per_node="4")

    assert seen.workload.fabric.domain == 72
    assert seen.kind == "dense Blackwell"


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"gpu": "TPU v5p"}, "gpu 'TPU v5p' is not one of the catalog's accelerators"),
        ({"gpus": ""}, "gpus is missing"),
        ({"gpus": "60"}, "gpus 60 are not whole hosts of 8"),
        ({"gpus": "-8"}, "gpus -8 is not above 0"),
        ({"tp": "two"}, "tp 'two' is not a number"),
        ({"tp": "1.5"}, "tp 1.5 is not a whole number"),
        ({"tp": "3"}, "tp 3 x pp 4 x cp 2 does not divide 64 GPUs"),
        ({"dp": "7"}, "dp 7, but 64 GPUs / (tp 4 x pp 4 x cp 2) is 2"),
        ({"global_batch": "127"}, "global_batch 127 is not whole microbatches of 1 on 2 replicas"),
        ({"schedule": "chimera"}, "schedule 'chimera' is not known"),
        ({"sharding": "odd"}, "sharding 'odd' is not known"),
        ({"model": "nemotron3-nano"}, "mamba layers are not modelled"),
        ({"model": "nobody", "layers": "4"}, "hidden is missing"),
        ({"measured_step_time_s": "nan"}, "measured_step_time_s nan is not above 0"),
        ({"seq_len": "1e30"}, "seq_len 1e30 is more than 100,000,000"),
        ({"layers": "9999"}, "layers 9999 is more than 2,000"),
        ({"vpp": "30"}, "pp 4 x vpp 30 stages are more than the 80 layers and ends"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(cells: dict[str, str], reason: str):
    with pytest.raises(Unreadable) as refusal:
        _seen(**cells)

    assert str(refusal.value) == reason


def test_a_table_with_short_and_long_lines_is_read():
    rows = rows_of("id,gpu,gpus\nx,H100\ny,H100,8,more\n")

    assert [row.id for row in rows] == ["x", "y"]
    assert rows[0].text("gpus") == ""
