"""Commands: exit codes, results on stdout, clear errors, nothing lost."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from orchestrator.specs.document import parse_run

GOOD = """
schema: 1
name: r
model: llama-2-13b
cluster: {card: dgx-h100, hosts: 4}
training: {sequence_length: 4096, global_batch_size: 256, steps: 100}
layout: {tp: 4, pp: 4, micro_batch_size: 1, sequence_parallel: true}
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_plan_prints_a_ranked_table_and_saves_the_best(llmorch, here):
    answer = llmorch("plan", "--gpus", 64, "--model", "llama-3.1-8b", "--top", 3)

    assert answer.code == 0, answer.err
    assert "llama-3.1-8b on 64 x h100-80gb-sxm" in answer.out
    assert max(len(line) for line in answer.out.splitlines()) <= 100
    saved = here / "llama-3.1-8b.64-gpus.yaml"
    assert parse_run(saved.read_text(), file=str(saved)).layout is not None


def test_the_saved_run_file_is_valid(llmorch, here):
    planned = llmorch("plan", "--gpus", 64, "--model", "llama-2-13b", "--out", "best.yaml")
    assert "note:" not in planned.err

    answer = llmorch("validate", "best.yaml")

    assert answer.code == 0, answer.err


def test_plan_says_when_the_engine_does_not_run_its_best(llmorch, here):
    answer = llmorch("plan", "--gpus", 64, "--model", "gpt-oss-20b")

    assert answer.code == 0
    assert "note: the megatron-core engine does not run it" in answer.err


def test_plan_leaves_a_file_of_its_own_choice_alone_when_it_differs(llmorch, here):
    (here / "llama-3.1-8b.64-gpus.yaml").write_text("mine\n")

    answer = llmorch("plan", "--gpus", 64, "--model", "llama-3.1-8b")

    assert answer.code == 0
    assert "exists and differs: kept" in answer.err
    assert (here / "llama-3.1-8b.64-gpus.yaml").read_text() == "mine\n"


def test_plan_json_holds_the_contract_for_scripts(llmorch, here):
    answer = llmorch("plan", "--gpus", 1024, "--json")

    document = json.loads(answer.out)
    assert set(document) >= {"schema", "plans", "rejected", "evaluated", "elapsed_s"}
    best = document["plans"][0]
    assert set(best) >= {
        "layout",
        "precision",
        "step_time_s",
        "tokens_per_s_per_gpu",
        "model_tflops_per_gpu",
        "mfu",
        "memory_gib",
        "binding_limit",
        "bubble_fraction",
        "bubble_measure",
        "parts",
    }
    layout_keys = "tp pp dp cp ep etp vpp microbatch_group_size micro_batch_size zero_stage"
    layout_keys += " zero_replicas offload overlap cp_comm_type sequence_parallel recompute"
    layout_keys += " schedule stage_layout"
    assert set(best["layout"]) >= set(layout_keys.split())
    assert set(best["layout"]["recompute"]) >= {"granularity", "modules", "layers"}
    layout = best["layout"]
    assert layout["tp"] * layout["pp"] * layout["dp"] * layout["cp"] == 1024
    assert sum(best["parts"]["time"].values()) == pytest.approx(best["step_time_s"])
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["plan", "--gpus", "64", "--model", "gpt3-175"], 3, "did you mean 'gpt3-175b'?"),
        (["plan", "--gpus", "64", "--cluster", "dgx-h10"], 3, "did you mean 'dgx-h100'?"),
        (["plan", "--gpus", "12"], 3, "12 is not a whole number of dgx-h100 hosts of 8 GPUs"),
        (["plan", "--gpus", "0"], 2, "greater than or equal to 1"),
        (["plan"], 2, "Missing option '--gpus'"),
        (["plan", "--gpus", "64", "--precision", "fp9"], 2, "fp9"),
        (["plan", "--gpus", "8"], 4, "no layout fits"),
        (["plan", "--gpus", "8", "--model", "absent.yaml"], 3, "absent.yaml: there is no such"),
        (["validate", "absent.yaml"], 3, "absent.yaml: there is no such file"),
        (["show", "lama-2-13b"], 3, "did you mean 'llama-2-13b'?"),
        (["plam"], 2, "No such command 'plam'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_slip_gets_a_clear_error_and_its_exit_code(llmorch, here, words, code, text):
    answer = llmorch(*words)

    assert answer.code == code, answer.err
    assert text in answer.err
    assert "Traceback" not in answer.err
    assert answer.out == ""


def test_validate_shows_the_rank_map_of_a_good_file(llmorch, here):
    (here / "run.yaml").write_text(GOOD)

    answer = llmorch("validate", "run.yaml")

    assert answer.code == 0, answer.err
    assert "run.yaml: valid" in answer.out
    assert "[0 1 2 3]" in answer.out


def test_validate_reports_shape_and_rule_problems_together(llmorch, here):
    text = GOOD.replace("tp: 4", "tp: 16").replace("steps: 100", "steps: 100, sped: 3")
    (here / "run.yaml").write_text(text)

    answer = llmorch("validate", "run.yaml", "--json")

    document = json.loads(answer.out)
    assert answer.code == 3
    assert document["valid"] is False
    keys = {problem["key"] for problem in document["problems"]}
    assert {"training.sped", "layout.tp", "layout"} <= keys


def test_validate_refuses_a_layout_that_does_not_fit_in_memory(llmorch, here):
    text = GOOD.replace("llama-2-13b", "gpt3-175b").replace("4096", "2048")
    (here / "run.yaml").write_text(text)

    answer = llmorch("validate", "run.yaml")

    assert answer.code == 3
    assert "the fullest rank needs" in answer.err


def test_validate_names_an_unknown_engine_with_the_nearest(llmorch, here):
    (here / "run.yaml").write_text(GOOD + "engine: {name: megatron-cor}\n")

    answer = llmorch("validate", "run.yaml")

    assert answer.code == 3
    assert "engine.name: unknown engine 'megatron-cor'" in answer.err
    assert "did you mean 'megatron-core'?" in answer.err


def test_the_examples_are_valid(llmorch, root):
    for path in sorted((root / "parallel_configs").glob("*.yaml")):
        answer = llmorch("validate", path)

        assert answer.code == 0, f"{path.name}: {answer.err}"


def test_an_unwritable_place_for_the_plan_is_a_storage_error(llmorch, here):
    answer = llmorch("plan", "--gpus", 64, "--model", "llama-3.1-8b", "--out", "no/such/run.yaml")

    assert answer.code == 8
    assert "no/such/run.yaml: there is no folder" in answer.err


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_what_is_no_file_is_never_replaced_by_one(llmorch, here, make):
    make(here / "out.yaml")

    answer = llmorch("plan", "--gpus", 64, "--model", "llama-2-13b", "--out", "out.yaml")

    assert answer.code == 8
    assert "is not a regular file" in answer.err
    assert not (here / "out.yaml").is_file()


def test_a_symbolic_link_is_written_through(llmorch, here):
    (here / "link.yaml").symlink_to(here / "real.yaml")

    answer = llmorch("plan", "--gpus", 64, "--model", "llama-2-13b", "--out", "link.yaml")

    assert answer.code == 0, answer.err
    assert (here / "link.yaml").is_symlink()
    assert "layout" in (here / "real.yaml").read_text()


def test_a_folder_under_the_plans_own_name_is_left_alone(llmorch, here):
    (here / "llama-2-13b.64-gpus.yaml").mkdir()

    answer = llmorch("plan", "--gpus", 64, "--model", "llama-2-13b")

    assert answer.code == 0
    assert "exists and differs: kept" in answer.err


def test_results_that_cannot_be_written_are_a_storage_error(here):
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [Path(sys.executable).parent / "llmorch", "schema"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    assert ended.returncode == 8
    assert "the disk is full" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_what_only_the_engine_refuses_has_its_own_exit_code(llmorch, here):
    (here / "run.yaml").write_text(GOOD.replace("pp: 4", "pp: 1, zero_stage: 3"))

    answer = llmorch("validate", "run.yaml")

    assert answer.code == 5
    assert "layout.zero_stage: 3" in answer.err


def test_what_is_not_honoured_is_noted(llmorch, here):
    (here / "run.yaml").write_text(GOOD.replace("tp: 4", "overlap: [tp, dp], tp: 4"))

    answer = llmorch("validate", "run.yaml")

    assert answer.code == 0, answer.err
    assert "note: megatron-core does not overlap tp yet" in answer.out
    assert "note: to launch it, the run file needs data and checkpoint" in answer.out


def test_show_counts_the_parameters_and_names_the_sources(llmorch):
    answer = llmorch("show", "llama-3.1-405b")

    assert answer.code == 0
    assert "405,853,388,800 parameters" in answer.out
    assert "source:" in answer.out


def test_show_json_has_the_card_and_what_follows_from_it(llmorch):
    document = json.loads(llmorch("show", "llama-2-13b", "--json").out)

    assert document["kind"] == "model"
    assert document["computed"]["parameters"] == 13_015_864_320


def test_schema_is_a_json_schema_that_accepts_the_examples(llmorch, root):
    schema = json.loads(llmorch("schema").out)

    jsonschema.Draft202012Validator.check_schema(schema)
    for path in sorted((root / "parallel_configs").glob("*.yaml")):
        jsonschema.validate(yaml.safe_load(path.read_text()), schema)


def test_schema_refuses_an_unknown_key(llmorch, root):
    schema = json.loads(llmorch("schema").out)
    data = yaml.safe_load((root / "parallel_configs/tiny-gpt.local-x4.yaml").read_text())

    with pytest.raises(jsonschema.ValidationError, match="tpp"):
        jsonschema.validate(data | {"layout": {"tpp": 2}}, schema)


def test_a_layout_given_as_words_is_priced_alone(llmorch, here):
    answer = llmorch("plan", "--gpus", 16, "--model", "llama-2-13b", "--layout", "tp=8,pp=2,mbs=1")

    assert answer.code == 0, answer.err
    assert "1 layouts examined" in answer.out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("tp=8,vppp=2,mbs=x", ["vppp: unknown name", "did you mean 'vpp'?", "mbs: 'x' is not a"]),
        ("tp=8,pp=2,dp=2", ["dp: 2, but 1 follows"]),
        ("tp=16", ["tp: 16 does not divide 40 attention heads"]),
        ("8x8", ["'8x8' is not like tp=8"]),
        ("tp=8,pp=2,recompute=mpl", ["recompute.modules.0: 'mpl' is no module"]),
    ],
)
def test_a_wrong_layout_is_answered_with_every_problem(llmorch, here, words, says):
    answer = llmorch("plan", "--gpus", 16, "--model", "llama-2-13b", "--layout", words)

    assert answer.code == 3
    assert [text for text in says if text not in answer.err] == []


def test_a_saved_plan_of_a_cpu_model_is_one_that_launch_takes(llmorch, here):
    question = ("--gpus", 4, "--model", "tiny-gpt", "--cluster", "local-cpu", "--precision", "fp32")
    llmorch("plan", *question, "--out", "tiny.yaml")

    answer = llmorch("launch", "tiny.yaml", "--dry-run")

    assert answer.code == 0, answer.err
    assert "llmorch-data-worker" in answer.out


def test_a_reader_who_has_seen_enough_is_no_error(here):
    reading, writing = os.pipe()
    os.close(reading)
    words = ["plan", "--gpus", "8", "--model", "llama-2-13b"]
    with os.fdopen(writing, "w") as unread:
        ended = subprocess.run(
            [Path(sys.executable).parent / "llmorch", *words],
            stdout=unread,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    assert (ended.returncode, ended.stderr) == (0, "")
