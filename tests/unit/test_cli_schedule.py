"""`llmorch schedule`: picture, numbers, files, and clear errors for what cannot be."""

import json

import pytest

from orchestrator.schedules.exports import csv
from orchestrator.schedules.schedule import build
from orchestrator.schedules.stage_grammar import unrolled
from orchestrator.specs.choices import ScheduleKind

RUN = """
schema: 1
name: r
model: llama-2-13b
cluster: {card: dgx-h100, hosts: 4}
training: {sequence_length: 4096, global_batch_size: 256, steps: 100}
layout: {tp: 4, pp: 4, vpp: 2, micro_batch_size: 1, sequence_parallel: true}
"""


def flags(**said: object) -> list[str]:
    words = {"kind": "1f1b", "stages": 4, "microbatches": 8, **said}
    return [
        word
        for name, value in words.items()
        for word in (f"--{name.replace('_', '-')}", str(value))
    ]


def test_flags_give_the_picture_and_the_bubble_by_its_measures(llmorch):
    answer = llmorch("schedule", *flags())

    assert answer.code == 0, answer.err
    assert "rank 3 | . . . 0 0'0'1 1'1'2" in answer.out
    assert "step      330.000 ms = work 240.000 ms + order 90.000 ms" in answer.out
    assert "by makespan 90.000 ms: 27.3% of the step, 37.5% over the work" in answer.out
    assert "by span" in answer.out
    assert "stages by rank: 4 3 2 1" in answer.out


def test_zero_is_never_printed_without_its_measure(llmorch):
    answer = llmorch("schedule", *flags(kind="zb-v"))

    zeros = [line for line in answer.out.splitlines() if "0.000 ms" in line and "bubble" in line]
    assert all("by makespan" in line or "by span" in line for line in zeros)
    assert "by span 0.000 ms" in answer.out
    assert "by makespan 30.000 ms" in answer.out


def test_json_holds_the_contract_for_scripts(llmorch):
    answer = llmorch("schedule", *flags(kind="interleaved-1f1b", latency_ms=1), "--json")

    document = json.loads(answer.out)
    assert document["schema"] == 1
    assert set(document["bubble"]) == {
        "makespan_ns",
        "makespan_fraction",
        "makespan_overhead",
        "span_ns",
        "idle_ns",
    }
    assert document["vpp"] == 2
    assert document["parts_ns"]["latency"] == 2 * (4 * 2 - 1) * 1_000_000
    assert sum(document["parts_ns"].values()) == document["makespan_ns"]
    assert document["peak_in_flight"] == [11, 9, 7, 5]


def test_files_are_written_where_asked(llmorch, tmp_path):
    paths = {name: tmp_path / f"out.{name}" for name in ("svg", "csv", "trace")}

    answer = llmorch(
        "schedule",
        *flags(kind="zb-v"),
        *(word for name, path in paths.items() for word in (f"--{name}", path)),
        "--json",
    )

    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["files"] == {name: str(path) for name, path in paths.items()}
    expected = build(ScheduleKind.ZB_V, pp=4, vpp=2, num_microbatches=8, microbatch_group_size=4)
    assert csv.orders_of(paths["csv"].read_text()) == expected.orders
    assert paths["svg"].read_text().startswith("<svg")
    assert json.loads(paths["trace"].read_text())["traceEvents"]


def test_a_run_file_gives_modelled_times_and_bytes(llmorch, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(RUN)

    answer = llmorch("schedule", path, "--json")

    assert answer.code == 0, answer.err
    document = json.loads(answer.out)
    assert (document["kind"], document["pp"], document["vpp"]) == ("interleaved-1f1b", 4, 2)
    assert document["num_microbatches"] == 128
    assert document["parts_ns"]["latency"] > 0
    assert document["parts_ns"]["imbalance"] > 0  # the vocabulary weighs on the last stage
    peaks = document["peak_activation_bytes"]
    assert peaks == sorted(peaks, reverse=True)


@pytest.mark.parametrize(
    ("said", "problem", "instead"),
    [
        (
            {"kind": "interleaved-1f1b", "microbatches": 3, "group": 4},
            "megatron-core: interleaved-1f1b needs at least pp microbatches a step: 3 is less",
            "4 microbatches in groups of 4; torch: groups of 3",
        ),
        ({"kind": "combined-1f1b", "microbatches": 3}, "megatron-core: combined", "4 microb"),
        ({"group": 4}, "--group 4 means nothing to 1f1b", "interleaved-1f1b and combined-1f1b"),
        ({"group": 0}, "--group 0 means nothing to 1f1b", "leave it out"),
        ({"kind": "zb-v", "group": -7}, "--group -7 means nothing to zb-v", "leave it out"),
        ({"kind": "gpipe", "group": 10**30}, "means nothing to gpipe", "leave it out"),
        (
            {"kind": "interleaved-zero-bubble", "microbatches": 7, "virtual": 2, "group": 3},
            "--group 3 means nothing to interleaved-zero-bubble",
            "leave it out",
        ),
        ({"kind": "interleaved-1f1b", "group": 0}, "microbatch_group_size: 0 is less", "1 or"),
        ({"kind": "interleaved-1f1b", "group": 10**30}, "is more than the 8", "groups of 8"),
        (
            {"kind": "interleaved-1f1b", "microbatches": 9},
            "leave a last group of 1",
            "8 or 12 microbatches in groups of 4; or 9 microbatches in groups of 5",
        ),
        (
            {"kind": "interleaved-1f1b", "group": 3},
            "microbatch_group_size 3 is less than pp 4",
            "8 microbatches in groups of 4",
        ),
        ({"kind": "interleaved-1f1b", "group": 9}, "9 is more than the 8", "groups of 8"),
        ({"kind": "dualpipe-v", "microbatches": 7}, "its 8 stages: 7 is less", "8 microbatches"),
        (
            {"kind": "interleaved-zero-bubble", "microbatches": 9},
            "9 microbatches in 2 rounds",
            "8 or 10 microbatches",
        ),
        ({"kind": "zb-v", "virtual": 3}, "there and back, not vpp 3", "vpp 2"),
        ({"virtual": 2}, "one stage a rank, not vpp 2", "interleaved-1f1b"),
        ({"stages": 0}, "pp: 0 is less than 1", "1 or more"),
        ({"microbatches": -4}, "-4 is less than 1", "1 or more"),
        ({"forward_ms": 0}, "--forward-ms 0 is not a time", "milliseconds from 0.000001"),
        ({"backward_ms": -3}, "--backward-ms -3 is not a time", "milliseconds from 0.000001"),
        ({"latency_ms": -1}, "--latency-ms -1 is not a time", "milliseconds from 0"),
        ({"forward_ms": "nan"}, "--forward-ms nan is not a time", "milliseconds"),
        ({"forward_ms": 1e12}, "--forward-ms 1000000000000 is not", "to 1,000,000"),
        ({"weight_ms": 20}, "not a part of the backward", "less than --backward-ms"),
        ({"microbatches": 10**9}, "is more than 10,000,000", "fewer microbatches"),
        ({"stages": 10**9}, "1,000,000,000 stages are more than", "mistype"),
    ],
    ids=lambda value: (
        "" if isinstance(value, str) else " ".join(f"{k}={v}" for k, v in value.items())
    ),
)
def test_what_cannot_be_is_refused_at_once_with_what_would_work(llmorch, said, problem, instead):
    answer = llmorch("schedule", *flags(**said))

    assert answer.code == 2
    assert problem in answer.err
    assert instead in answer.err
    assert answer.out == ""


@pytest.mark.parametrize(
    ("said", "lines"),
    [
        (
            {"microbatches": 3},
            [
                "run by megatron-core (pipeline_model_parallel_size above 1); deepspeed (Pipeline",
                "not run by torch: torch's 1f1b needs as many microbatches as pp 4: 3 is less",
            ],
        ),
        ({"stages": 1}, ["run by megatron-core (pipeline_model_parallel_size 1); deepspeed"]),
        (
            {"kind": "interleaved-1f1b", "group": 8},
            [
                "run by megatron-core (",
                "not run by torch: interleaved-1f1b takes 8 microbatches in groups of 4 alone",
            ],
        ),
        (
            {"kind": "interleaved-1f1b", "stages": 2},
            ["overlap_p2p_comm: interleaved-1f1b with pp 2 needs overlapped pipeline comm"],
        ),
        (
            {"kind": "interleaved-1f1b", "microbatches": 3},
            [
                "3 microbatches in groups of 3\n",
                "run by torch (ScheduleInterleaved1F1B)\n",
                "not run by megatron-core: interleaved-1f1b needs at least pp microbatches",
            ],
        ),
    ],
    ids=["1f1b m<p", "one rank", "another group", "two ranks", "interleaved m<p"],
)
def test_only_engines_that_run_these_numbers_are_named(llmorch, said, lines):
    answer = llmorch("schedule", *flags(**said))

    assert answer.code == 0, answer.err
    assert [line for line in lines if line not in answer.out] == []


@pytest.mark.parametrize(
    ("said", "makespan_ms"),
    [
        (
            {"stages": 64, "microbatches": 128, "forward_ms": 10_000, "backward_ms": 20_000},
            (128 + 63) * 30_000,
        ),
        ({"stages": 2, "forward_ms": 600_000, "backward_ms": 600_000}, (8 + 1) * 1_200_000),
    ],
    ids=["many stages", "long stages"],
)
def test_long_times_that_are_legal_are_simulated(llmorch, said, makespan_ms):
    answer = llmorch("schedule", *flags(**said), "--json")

    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["makespan_ns"] == makespan_ms * 1_000_000


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--kind", "1f1b"),
        ("--stages", 4),
        ("--microbatches", 8),
        ("--virtual", 2),
        ("--group", 4),
        ("--forward-ms", 10),
        ("--backward-ms", 20),
        ("--weight-ms", 5),
        ("--latency-ms", 0),
    ],
)
def test_a_flag_beside_a_run_file_that_says_it_is_refused(llmorch, tmp_path, flag, value):
    path = tmp_path / "run.yaml"
    path.write_text(RUN)

    answer = llmorch("schedule", path, flag, value)

    assert answer.code == 2
    assert f"{flag} beside a run file" in answer.err


def test_two_formats_in_one_file_are_refused_before_any_is_written(llmorch, tmp_path):
    path = tmp_path / "out"

    answer = llmorch(
        "schedule",
        *flags(),
        "--svg",
        path,
        "--trace",
        tmp_path / "." / ".." / tmp_path.name / "out",
    )

    assert answer.code == 2
    assert "--svg and --trace would both write" in answer.err
    assert not path.exists()


@pytest.mark.parametrize("flag", ["--svg", "--csv", "--trace"])
def test_an_empty_path_is_no_file_name(llmorch, flag):
    answer = llmorch("schedule", *flags(), flag, "")

    assert answer.code == 2
    assert flag in answer.err
    assert "is no file name" in answer.err


def test_a_run_whose_engine_has_no_such_schedule_is_refused_as_by_validate(llmorch, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(RUN.replace("vpp: 2", "schedule: gpipe"))

    answer = llmorch("schedule", path)

    assert answer.code == llmorch("validate", path).code == 5
    assert "gpipe is not run by megatron-core" in answer.err
    assert "1f1b, interleaved-1f1b" in answer.err


def test_a_run_that_does_not_fit_says_so_with_both_numbers(llmorch, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(RUN.replace("micro_batch_size: 1", "micro_batch_size: 16"))

    answer = llmorch("schedule", path)

    document = json.loads(llmorch("schedule", path, "--json").out)["memory"]
    assert answer.code == 0, answer.err
    (line,) = (line for line in answer.out.splitlines() if "does not fit" in line)
    assert f"needs {document['needed_bytes'] / 2**30:.1f} GiB (modelled)" in line
    assert f"has {document['accelerator_bytes'] / 2**30:.1f} GiB" in line
    assert not document["fits"]


def test_a_run_that_fits_is_not_told_otherwise(llmorch, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(RUN)

    answer = llmorch("schedule", path)

    assert answer.code == 0, answer.err
    assert "does not fit" not in answer.out


def test_json_lists_where_each_rank_releases_memory(llmorch):
    answer = llmorch("schedule", *flags(stages=2, microbatches=2), "--json")

    assert json.loads(answer.out)["releases"] == [
        [
            {"slot": 2, "step": "0B0", "time_ns": 60_000_000, "activations": 1},
            {"slot": 3, "step": "0B1", "time_ns": 90_000_000, "activations": 1},
        ],
        [
            {"slot": 1, "step": "1B0", "time_ns": 40_000_000, "activations": 1},
            {"slot": 3, "step": "1B1", "time_ns": 70_000_000, "activations": 1},
        ],
    ]


def test_json_names_the_engines_apart(llmorch):
    answer = llmorch("schedule", *flags(microbatches=3), "--json")

    document = json.loads(answer.out)
    assert set(document["engines"]) == {"megatron-core", "deepspeed"}
    assert "3 is less" in document["engines_refusing"]["torch"]


def test_without_a_run_file_or_flags_it_says_what_is_needed(llmorch):
    answer = llmorch("schedule")

    assert answer.code == 2
    assert "--kind, --stages and --microbatches" in answer.err
    assert "zb-v" in answer.err


def test_a_broken_run_file_is_refused_as_by_validate(llmorch, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(RUN.replace("vpp: 2", "vpp: 3"))

    answer = llmorch("schedule", path)

    assert answer.code == 3
    assert "layout.vpp" in answer.err


def test_a_run_files_layers_are_balanced_against_its_vocabulary(llmorch, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(
        RUN.replace("vpp: 2, ", "").replace("llama-2-13b", "gemma-2-9b").replace("pp: 4", "pp: 2")
    )

    answer = llmorch("schedule", path, "--balance", "--json")

    found = json.loads(answer.out)["balance"]
    assert answer.code == 0, answer.err
    assert found["proven"]
    assert found["makespan_ns"] < found["own_makespan_ns"]
    first, last = (part.count("t") for part in spelled(found["stage_layout"]))
    assert first > last  # 256,000 words weigh several layers
    assert first + last == 42


def spelled(text: str) -> list[str]:
    return ["".join(stage) for stage in unrolled(text)]


def test_the_balanced_layout_is_as_long_as_it_was_said_to_be(llmorch, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(RUN.replace("vpp: 2, ", ""))
    found = json.loads(llmorch("schedule", path, "--balance", "--json").out)["balance"]
    layout = f'pp: 4, stage_layout: "{found["stage_layout"]}"'
    path.write_text(RUN.replace("pp: 4, vpp: 2", layout))

    answer = llmorch("schedule", path, "--json")

    assert json.loads(answer.out)["makespan_ns"] == pytest.approx(found["makespan_ns"], rel=1e-6)


def test_balancing_without_a_run_file_says_what_is_needed(llmorch):
    answer = llmorch("schedule", *flags(), "--balance")

    assert answer.code == 2
    assert "give a run file" in answer.err
