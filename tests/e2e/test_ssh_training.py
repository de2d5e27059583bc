"""The real thing on four hosts: `llmorch launch --via ssh` trains a GPT through Megatron-Core."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.ssh_supervised import FENCED_S, LEASE_S, PATIENCE, end
from tests.e2e.testbed import Testbed, die_with_parent

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.timeout(600),
]
DEADLINE_S = 570.0  # a laden machine takes minutes to import torch eight times
STEPS = 8
RUN = """
schema: 1
name: NAME
model: tiny-gpt
cluster:
  hosts: 4
  card:
    name: bench
    accelerator: cpu-core
    gpus_per_host: 1
    scale_up_domain_gpus: 1
    network_gbit_per_s_per_gpu: 8
    network_latency_us: 50
    fabric: ethernet
    source: [test]
    retrieved: 2026-11-21
training: {sequence_length: 64, global_batch_size: 8, steps: STEPS, precision: fp32,
           optimizer: {learning_rate: 2.0e-3, warmup_steps: 2}}
layout: {tp: 1, pp: 2, micro_batch_size: 2, zero_stage: 1}
data: {prefix: corpus, corpus: {source: python-stdlib, limit_bytes: 200000}}
checkpoint: {interval_steps: 3}
supervise: {lease_s: LEASE, join_timeout_s: 120}
launch: {ssh: SSH}
"""


class Launched:
    """`llmorch launch --via ssh` at the controller's place."""

    def __init__(self, bed: Testbed, folder: Path, name: str) -> None:
        self.directory = folder / "runs" / name
        ssh = {"config_file": str(bed.ssh_config), "options": PATIENCE}
        text = RUN.replace("NAME", name).replace("LEASE", str(LEASE_S))
        run_file = folder / f"{name}.yaml"
        run_file.write_text(text.replace("SSH", json.dumps(ssh)).replace("STEPS", str(STEPS)))
        words = ("launch", run_file, "--via", "ssh", "--hostfile", bed.hostfile, "--json")
        self.said: list[str] = []
        self.process = subprocess.Popen(
            bed.inside(Path(sys.executable).parent / "llmorch", *words, folder=folder),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - it calls one C function
        )
        self._watchdog = threading.Timer(DEADLINE_S, self.process.kill)
        self._watchdog.start()

    def wait_for(self, words: str) -> None:
        for line in self.process.stderr:
            self.said.append(line)
            if words in line:
                return
        pytest.fail(f"the run ended without '{words}':\n{''.join(self.said)}")

    def end(self) -> tuple[int, dict]:
        out, err = self.process.communicate()
        self._watchdog.cancel()
        self.said.append(err)
        return self.process.returncode, json.loads(out) if out else {}

    def losses(self) -> dict[int, float]:
        rows = map(json.loads, (self.directory / "metrics.jsonl").read_text().splitlines())
        return {row["step"]: row["loss"] for row in rows}


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    with Testbed(tmp_path_factory.mktemp("hosts") / "bed") as four_hosts:
        yield four_hosts


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder that no shell likes."""
    place = tmp_path_factory.mktemp("work") / "a 'b' \"c\"\n$d"
    place.mkdir()
    return place


def test_four_hosts_train_through_the_loss_of_an_agent(bed: Testbed, folder: Path) -> None:
    run = Launched(bed, folder, "on-four-hosts")
    run.wait_for("checkpoint of step 3 committed")
    victims = [p.pid for p in bed.host("h2").processes() if "--agent-id" in p.command]
    end(victims)

    code, summary = run.end()

    losses = run.losses()
    said = "".join(run.said)
    assert code == 0, said
    assert victims
    assert "preflight: 4 hosts are ready" in said
    assert sorted(losses) == list(range(1, STEPS + 1))
    assert losses[STEPS] < losses[1]
    assert [restart["resume_step"] for restart in summary["restarts"]] in ([3], [6])
    assert (run.directory / "checkpoints" / "latest").read_text() == f"step-{STEPS}\n"
    assert bed.is_clean(within_s=FENCED_S), bed.processes()


@pytest.mark.slow_e2e
def test_a_killed_controller_leaves_no_megatron_rank(bed: Testbed, folder: Path) -> None:
    run = Launched(bed, folder, "abandoned")
    run.wait_for("step 1/")
    before = bed.processes()
    run.process.kill()
    run.end()

    forked = [p for p in before if any("llmorch-forkserver" in word for word in p.command)]
    assert len(forked) == 2 * 4  # of each host a fork server, and the rank that bears its name
    assert bed.is_clean(within_s=FENCED_S), bed.processes()
