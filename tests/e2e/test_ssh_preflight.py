"""The preflight on real hosts: each has something else wrong, and all of it is told at once."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.ssh_supervised import SshToyRun
from tests.e2e.testbed import Testbed, TestbedHost

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")
ENGINE = "megatron_core-0.16.1.dist-info"
RUN = """
schema: 1
name: looked-at
model: tiny-gpt
cluster:
  hosts: HOSTS
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
training: {sequence_length: 64, global_batch_size: 80, steps: 8, precision: fp32}
layout: {tp: 1, pp: 2, micro_batch_size: 1, zero_stage: 1}
data: {prefix: corpus, corpus: {source: python-stdlib, limit_bytes: 200000}}
checkpoint: {interval_steps: 3}
launch:
  via: ssh
  hostfile: HOSTFILE
  venv: VENV
  ssh: {config_file: CONFIG, options: {ConnectTimeout: "3"}}
  preflight: {timeout_s: 60, free_disk_gib: DISK}
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a Python environment that a host can have otherwise."""
    folder = tmp_path / "place"
    (folder / "venv" / "bin").mkdir(parents=True)
    own = Path(sys.executable).parent
    for script in own.glob("llmorch*"):
        (folder / "venv" / "bin" / script.name).symlink_to(script)
    python = folder / "venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return folder


@pytest.fixture
def bed(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Testbed]:
    with Testbed(tmp_path / "bed", hosts=getattr(request, "param", 4)) as hosts:
        yield hosts


def put_over(host: TestbedHost, path: Path, text: str, *, mode: int = 0o755) -> None:
    """Give one host another file in a place where all have the same."""
    other = host.folder / f"own-{path.name}"
    other.write_text(text)
    other.chmod(mode)
    host.run("mount", "--bind", other, path)


def launched(
    bed: Testbed, place: Path, *words: object, hosts: int, disk: float = 0.001
) -> subprocess.CompletedProcess[str]:
    text = RUN.replace("HOSTS", str(hosts)).replace("HOSTFILE", str(bed.hostfile))
    text = text.replace("CONFIG", str(bed.ssh_config)).replace("VENV", str(place / "venv"))
    (place / "run.yaml").write_text(text.replace("DISK", str(disk)))
    program = Path(sys.executable).parent / "llmorch"
    command = bed.inside(program, "launch", place / "run.yaml", *words, folder=place)
    return subprocess.run(command, capture_output=True, text=True, check=False)


def spoil(bed: Testbed, place: Path) -> str:
    """Give each host but the first a trouble of its own; the pid of a process left on the last."""
    hosts = {host.name: host for host in bed.hosts}
    python = place / "venv" / "bin" / "python"
    packages = Path(sys.executable).parents[1] / "lib" / "python3.11" / "site-packages"
    hosts["h2"].cut()
    put_over(hosts["h3"], bed.folder / "id.pub", "nobody's key\n")
    put_over(hosts["h4"], python, "#!/bin/sh\nexec /nowhere/python3\n")
    put_over(hosts["h5"], python, f'#!/bin/sh\nexec {sys.executable} -I -c "{AHEAD}$3"\n')
    hosts["h6"].run("mount", "-t", "tmpfs", "none", packages / ENGINE)
    (place / "runs").mkdir()
    hosts["h7"].run("mount", "-t", "tmpfs", "none", place / "runs")
    hosts["h8"].run("nft", "-f", "-", text=CLOSED)
    put_over(hosts["h9"], python, f'#!/bin/sh\nexec {sys.executable} -I -c "{OLD}$3"\n')
    stale = 'LLMORCH_AGENT="0@/old/run" setsid sleep 300 </dev/null >/dev/null 2>&1 & echo $!'
    return hosts["h10"].run("sh", "-c", stale).stdout.strip()


def squeezed(text: str) -> str:
    """Return a text without white space: where a table breaks its lines is no matter."""
    return "".join(text.split())


@pytest.mark.parametrize("bed", [10], indirect=True)
def test_each_hosts_own_trouble_is_told_and_nothing_is_started(bed: Testbed, place: Path) -> None:
    pid = spoil(bed, place)
    python = place / "venv" / "bin" / "python"

    ended = launched(bed, place, hosts=10)

    told = squeezed(ended.stderr)
    expected = [
        "error: 9 of 10 hosts cannot take part; nothing was started",
        "h2 reach ssh: connect to host 10.77.0.12 port 22: Connection timed out",
        "h3 login root@10.77.0.13: Permission denied (publickey",
        f"h4 python {python} cannot be started: ",
        "h6 engine megatron-core is missing; 0.16.1 is needed",
        f"h7 shared path {place}/runs/looked-at: not seen here: No such file or directory",
        "h8 controller this machine at 10.77.0.1: Connection refused",
        f"h9 python {python} is Python 3.9.2; 3.11 or later is needed",
        f"h10 other runs pid {pid} of run /old/run stop that run, or kill what it left",
    ]
    assert ended.returncode == 6, ended.stderr
    assert [line for line in expected if squeezed(line) not in told] == []
    assert re.search(r"h5clockis(29|30)\d\.\dsaheadofthismachine;atmost5s", told)
    assert max(map(len, ended.stderr.splitlines()[1:])) <= 100
    assert "Traceback" not in ended.stderr
    assert not (place / "runs" / "looked-at").exists()
    assert [path.name for path in place.iterdir() if path.name.startswith(".")] == []
    assert {process.command[0] for process in bed.processes()} == {"sleep"}


CLOSED = """
table inet closed {
  chain out {
    type filter hook output priority 0;
    ip daddr 10.77.0.1 tcp sport != 22 reject
  }
}
"""
AHEAD = "import time;a=time.time;time.time=lambda:a()+300\n"
OLD = "import sys;sys.version_info=(3,9,2)\n"


def test_trouble_that_all_hosts_share_is_told_once(bed: Testbed, place: Path) -> None:
    ended = launched(bed, place, hosts=4, disk=1e9)

    told = " ".join(ended.stderr.split())
    assert ended.returncode == 6
    assert "4 of 4 hosts cannot take part" in told
    assert "h1, h2, h3, h4 disk" in told
    assert told.count("are free for the run directory; 1000000000.0 GiB are needed") == 1


def test_a_host_whose_key_is_not_known_is_not_trusted(bed: Testbed, place: Path) -> None:
    text = bed.ssh_config.read_text()
    bed.ssh_config.write_text(f"Host h2\n  HostKeyAlias other\n{text}")

    ended = launched(bed, place, hosts=4)

    told = " ".join(ended.stderr.split())
    assert ended.returncode == 6
    assert "1 of 4 hosts" in told
    assert "h2 host key Host key verification failed. connect once by hand" in told


def test_a_dry_run_prints_the_request_and_asks_no_host(bed: Testbed, place: Path) -> None:
    for host in bed.hosts:
        host.cut()

    ended = launched(bed, place, "--dry-run", hosts=4)

    assert ended.returncode == 0, ended.stderr
    assert "host         h3 (10.77.0.13): 1 ranks\n" in ended.stdout
    assert "controller   10.77.0.1:any\n" in ended.stdout
    assert f"python       {place}/venv/bin/python, on every host\n" in ended.stdout
    assert "package      megatron-core 0.16.1, on every host\n" in ended.stdout
    assert not (place / "runs").exists()


def test_too_few_hosts_are_refused_with_both_numbers(bed: Testbed, place: Path) -> None:
    ended = launched(bed, place, hosts=8)

    assert ended.returncode == 6
    assert "the run needs 8 hosts, and there are 4 in it" in ended.stderr


def test_gpus_that_are_missing_in_use_or_unseen_are_told(bed: Testbed, tmp_path: Path) -> None:
    free = "0, 5, 81559\\n1, 5, 81559\\n"
    used = "0, 70000, 81559\\n1, 5, 81559\\n"
    for name, memory, pids in (
        ("h1", free, ""),
        ("h2", "0, 5, 81559\\n", ""),
        ("h3", used, "4242, 69000\\n"),
    ):
        smi = f'#!/bin/sh\ncase "$1" in *apps*) printf "{pids}";; *) printf "{memory}";; esac\n'
        bed.host(name).run("mount", "-t", "tmpfs", "none", "/usr/local/bin")
        write = "cat > /usr/local/bin/nvidia-smi; chmod 755 /usr/local/bin/nvidia-smi"
        bed.host(name).run("sh", "-c", write, text=smi)

    with SshToyRun(bed, tmp_path / "run", terms={"gpus": 2, "gpu_used_bytes": 2**30}) as run:
        code = run.end()

        told = " ".join(run.error.split())
        assert code == 6
        assert "3 of 4 hosts cannot take part" in told
        assert "h2 gpu 1 GPUs; 2 are needed" in told
        assert "h3 gpu GPU 0 has 68.4 GiB in use; at most 1.0 GiB" in told
        assert "h3 gpu in use by pid 4242" in told
        assert "h4 gpu could not tell: FileNotFoundError" in told
        assert "h1" not in told


def test_a_host_that_hangs_is_told_with_the_question_it_hangs_at(
    bed: Testbed, tmp_path: Path
) -> None:
    hang = "#!/bin/sh\nexec sleep 300\n"
    bed.host("h2").run("mount", "-t", "tmpfs", "none", "/usr/local/bin")
    write = "cat > /usr/local/bin/nvidia-smi; chmod 755 /usr/local/bin/nvidia-smi"
    bed.host("h2").run("sh", "-c", write, text=hang)
    terms = {"gpus": 1, "gpu_used_bytes": 1, "timeout_s": 15.0}

    with SshToyRun(bed, tmp_path / "run", terms=terms) as run:
        code = run.end()

        assert code == 6
        assert "no answer within 15 s; it hangs at 'gpus'" in " ".join(run.error.split())


def test_a_rendezvous_port_in_use_is_told_before_the_start(bed: Testbed, tmp_path: Path) -> None:
    listen = "import socket;s=socket.create_server(('',29500));print(flush=True);s.accept()"
    holder = f'{sys.executable} -c "{listen}" >/mnt/up 2>/dev/null </dev/null & read up </mnt/up'
    bed.host("h1").run("mount", "-t", "tmpfs", "none", "/mnt")
    bed.host("h1").run("sh", "-c", f"mkfifo /mnt/up; {holder}")

    with SshToyRun(bed, tmp_path / "run", rendezvous_port=29500) as run:
        code = run.end()

        assert code == 6
        told = " ".join(run.error.split())
        assert "h1 port rendezvous port 29500: Address already in use" in told


def test_login_scripts_that_talk_do_no_harm(bed: Testbed, tmp_path: Path) -> None:
    talk = "echo welcome; echo llmorch-answer; echo llmorch-answer 7"
    shell = f'#!/bin/sh\n{talk}\nexec /bin/sh "$@"\n'
    put_over(bed.host("h2"), Path("/bin/bash"), shell)

    with SshToyRun(bed, tmp_path / "run", steps=10) as run:
        assert run.end() == 0, run.told
