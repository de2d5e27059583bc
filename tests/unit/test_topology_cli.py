"""`llmorch validate --hostfile`: what it shows, what it writes, and that it starts nothing."""

import json
import os
import subprocess
import xml.etree.ElementTree as ET
from io import StringIO

import pytest
from rich.console import Console

from launch.hostfile import read_hosts
from orchestrator import api
from orchestrator.cli.topology_text import picture
from orchestrator.cli.topology_view import Wishes, looked

RUN_175B = """\
schema: 1
name: gpt3-175b-1024
model: gpt3-175b
cluster: {card: dgx-h100, hosts: 128}
training: {sequence_length: 2048, global_batch_size: 1536, tokens: 300_000_000_000, precision: bf16}
layout: {tp: 8, pp: 8, sequence_parallel: true, recompute: {granularity: full}}
"""

RUN_405B = """\
schema: 1
name: llama-3.1-405b-16k
model: llama-3.1-405b
cluster: {card: dgx-h100, hosts: 2048, spares: 8}
training: {sequence_length: 8192, global_batch_size: 2048, tokens: 15_600_000_000_000,
           precision: bf16}
layout: {tp: 8, pp: 16, vpp: 8, sequence_parallel: true, schedule: interleaved-1f1b,
         recompute: {granularity: full}, stage_layout: "E|(t|)*126,L"}
"""

RUN_MOE = """\
schema: 1
name: mixtral
model: mixtral-8x7b
cluster: {card: dgx-h100, hosts: 4}
training: {sequence_length: 4096, global_batch_size: 64, tokens: 1_000_000_000, precision: bf16}
layout: {tp: 2, pp: 2, ep: 8, etp: 1, sequence_parallel: true}
"""


RUN_MLA = """\
schema: 1
name: lite
model: deepseek-v2-lite
cluster: {card: dgx-h100, hosts: 4}
training: {sequence_length: 4096, global_batch_size: 64, tokens: 1_000_000_000, precision: bf16}
layout: {tp: 2, ep: 8, etp: 1, sequence_parallel: true}
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Return a function that writes a file and returns its path."""
    monkeypatch.delenv("SLURM_TOPOLOGY_ADDR", raising=False)

    def write(name, text):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def in_racks(count, racks):
    """Hosts striped over racks."""
    rows = [f"h{n:04d},8,r{n % racks}" for n in range(count)]
    return "\n".join(["host,gpus,rack", *rows, ""])


def test_175b_on_1024_gpus_is_shown_without_starting_anything(llmorch, file, monkeypatch):
    def started(*words, **more):
        raise AssertionError(f"a process was started: {words}")

    for name in ("fork", "posix_spawn", "execvp", "system"):
        monkeypatch.setattr(os, name, started)
    monkeypatch.setattr(subprocess, "Popen", started)
    run, hosts = file("run.yaml", RUN_175B), file("hosts", "h[001-128] slots=8\n")

    answer = llmorch("validate", run, "--hostfile", hosts, "--rank-map")

    rows = [line.split() for line in answer.out.splitlines()]
    assert answer.code == 0
    assert ["h[001-016]", "0-127", "0-7", "0", "0-15", "0"] in rows
    assert ["h[113-128]", "896-1023", "0-7", "0", "0-15", "7"] in rows
    assert ["tp", "8", "128", "1", "0", "0"] in rows
    assert ["dp", "16", "64", "16", "64", "0"] in rows
    assert max(map(len, answer.out.splitlines())) <= 100


def test_the_bytes_of_pipelines_are_the_ones_worked_out_by_hand(llmorch, file):
    """96 microbatches x 7 hops x [1, 2048, 12288] in BF16 over 8 ranks of tp, 128 pipelines."""
    run = file("run.yaml", RUN_175B)

    answer = llmorch("validate", run, "--rank-map", "--json")

    sent = {
        (one["kind"], one["pattern"]): one["links"]
        for one in json.loads(answer.out)["topology"]["traffic"]
    }
    hop_bytes = 2048 * 12288 * 2 / 8
    assert sent["pp", "next"]["network_bytes"] == 96 * 7 * hop_bytes * 128
    assert sent["pp", "previous"]["network_bytes"] == 96 * 7 * hop_bytes * 128
    assert sent["tp", "ring"]["network_bytes"] == 0


def test_16384_ranks_fit_the_page_and_an_order_by_racks_is_written(llmorch, file, tmp_path):
    run, hosts = file("run.yaml", RUN_405B), file("hosts.csv", in_racks(2056, racks=257))
    better = tmp_path / "better.csv"

    answer = llmorch("validate", run, "--hostfile", hosts, "--rank-map", "--reordered", better)

    written = read_hosts(better)
    assert answer.code == 0
    assert "16,384 ranks on 2,048 hosts of 8" in answer.out
    assert "a better order of hosts" in answer.out
    assert max(map(len, answer.out.splitlines())) <= 100
    assert len(answer.out.splitlines()) < 70
    assert sorted(host.name for host in written) == sorted(h.name for h in read_hosts(hosts))
    assert [host.rack for host in written[:8]] == [written[0].rack] * 8


def test_the_order_written_is_as_good_as_it_was_said_and_no_better_one_follows(
    llmorch, file, tmp_path
):
    run, hosts = file("run.yaml", RUN_175B), file("hosts.csv", in_racks(128, racks=8))
    better = tmp_path / "better.csv"
    first = llmorch("validate", run, "--hostfile", hosts, "--reordered", better, "--json")

    second = llmorch("validate", run, "--hostfile", better, "--json")

    order = json.loads(first.out)["topology"]["host_order"]
    again = json.loads(second.out)["topology"]
    assert order["is_better"]
    assert again["links"]["switches"][0]["sent_bytes"] == pytest.approx(order["bytes"][0])
    assert again["host_order"]["is_better"] is False


def test_experts_have_axes_groups_and_links_of_their_own(llmorch, file):
    answer = llmorch("validate", file("run.yaml", RUN_MOE), "--rank-map")

    header = next(line for line in answer.out.splitlines() if line.startswith("hosts"))
    assert header.split() == ["hosts", "ranks", "tp", "cp", "dp", "pp", "etp", "ep", "edp"]
    assert "expert-dp" in answer.out
    assert any(line.split()[:2] == ["ep", "all"] for line in answer.out.splitlines() if line)


def test_json_holds_every_rank_and_every_group(llmorch, file):
    answer = llmorch("validate", file("run.yaml", RUN_MOE), "--rank-map", "--json")

    rank_map = json.loads(answer.out)["topology"]["rank_map"]
    assert rank_map["host"] == [rank // 8 for rank in range(32)]
    assert rank_map["tp"] == [rank % 2 for rank in range(32)]
    assert rank_map["members"]["ep"] == [list(range(n, n + 8)) for n in range(0, 32, 8)]


@pytest.mark.parametrize(("text", "boxes"), [(RUN_MOE, 32), (RUN_175B, 128)], ids=["gpus", "hosts"])
def test_the_picture_has_a_box_for_each(llmorch, file, tmp_path, text, boxes):
    picture = tmp_path / "ranks.svg"

    answer = llmorch("validate", file("run.yaml", text), "--svg", picture)

    found = ET.parse(picture).getroot().findall("{http://www.w3.org/2000/svg}g")
    assert answer.code == 0
    assert f"wrote {picture}" in answer.err
    assert len(found) == boxes


def test_names_of_racks_cannot_break_the_picture(llmorch, file, tmp_path):
    rows = "\n".join(f"h{n},\"<r & 'x'>\"" for n in range(4))
    hosts, picture = file("hosts.csv", f"host,rack\n{rows}\n"), tmp_path / "ranks.svg"

    llmorch("validate", file("run.yaml", RUN_MOE), "--hostfile", hosts, "--svg", picture)

    assert "<r & 'x'>" in {text.text for text in ET.parse(picture).getroot().iter()}


def test_the_switches_come_from_slurms_environment(llmorch, file, monkeypatch):
    hosts = file("hosts", "h[0-3]\n")
    monkeypatch.setenv("SLURM_TOPOLOGY_ADDR", "s0.s1.h0 s0.s2.h1 s0.s1.h2 s0.s2.h3")
    monkeypatch.setenv("SLURM_TOPOLOGY_ADDR_PATTERN", "switch.switch.node")

    answer = llmorch("validate", file("run.yaml", RUN_MOE), "--hostfile", hosts)

    assert "across switch level 2s: " in answer.out
    assert "h[0,2,1,3]" in answer.out or "h[1,3,0,2]" in answer.out


def test_a_missing_hostfile_ends_with_3_and_shows_no_ranks(llmorch, file, tmp_path):
    answer = llmorch("validate", file("run.yaml", RUN_MOE), "--hostfile", tmp_path / "hosts")

    assert answer.code == 3
    assert answer.err.startswith(f"{tmp_path}/hosts: hostfile not found")
    assert "ranks on" not in answer.out
    assert "valid" not in answer.out


def test_problems_of_both_files_come_at_once(llmorch, file):
    run = file("run.yaml", RUN_MOE.replace("tp: 2", "tp: 3"))
    hosts = file("hosts", "h1 slots=8\nh1 slots=4\n")

    answer = llmorch("validate", run, "--hostfile", hosts)

    assert answer.code == 3
    assert "layout.tp" in answer.err
    assert "line 2: 'h1' is named on line 1 already" in answer.err


def test_problems_of_a_hostfile_are_in_the_json(llmorch, file):
    hosts = file("hosts", "h1 slots=8\nh2 slots=8\n")

    answer = llmorch("validate", file("run.yaml", RUN_MOE), "--hostfile", hosts, "--json")

    document = json.loads(answer.out)
    assert answer.code == 3
    assert document["valid"] is False
    assert document["hostfile"]["problems"][0]["rule"] == "hostfile-sum"


def test_a_run_whose_bytes_are_not_counted_says_why():
    run = api.read_run(RUN_MLA, file="run.yaml")
    topology = looked(api.plan(run).plans[0], Wishes(wants_rank_map=True)).topology
    page = Console(width=100, file=StringIO())

    page.print(picture(topology, wants_rank_map=True))

    said = page.file.getvalue()
    assert "bytes on links: not counted for multi-latent attention" in said
    assert "expert-dp" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--reordered", "x.csv"], "give the hosts with --hostfile"),
        (["--hostfile", "h", "--reordered", "h"], "name the same file"),
        (["--svg", "."], "a file without a name"),
    ],
    ids=["no-hosts", "one-file", "no-name"],
)
def test_wishes_that_do_not_go_together_are_refused(llmorch, file, words, said):
    answer = llmorch("validate", file("run.yaml", RUN_MOE), *words)

    assert answer.code == 2
    assert said in answer.err


def test_a_picture_that_cannot_be_written_ends_with_8(llmorch, file, tmp_path):
    answer = llmorch("validate", file("run.yaml", RUN_MOE), "--svg", tmp_path / "no" / "x.svg")

    assert answer.code == 8
