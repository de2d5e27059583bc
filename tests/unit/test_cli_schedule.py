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
        ({"kind": "interleaved-1f1b", "microbatches": 3}, "3 is less than pp 4", "4 microbatches"),
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
        ({"forward_ms": 1e12}, "is not a time", "to 1e+06"),
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
