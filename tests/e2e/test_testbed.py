"""The testbed itself: hosts are apart, reachable, and gone when their maker is."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.supervised import ROOT
from tests.e2e.testbed import Testbed, children, eventually

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")
GONE_S = 10.0
MAKER = """
import sys
from pathlib import Path
from tests.e2e.testbed import Testbed
with Testbed(Path(sys.argv[1])):
    print("up", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory):
    with Testbed(tmp_path_factory.mktemp("hosts") / "bed") as four_hosts:
        yield four_hosts


def ssh(bed: Testbed, host: str, command: str) -> str:
    words = bed.inside("ssh", "-F", bed.ssh_config, "-o", "BatchMode=yes", host, command)
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def test_each_host_has_a_name_a_network_and_a_process_tree_of_its_own(bed: Testbed) -> None:
    look = "hostname; ip -br addr show eth0; readlink /proc/self/ns/pid; ps -e | wc -l"
    seen = [ssh(bed, host.name, look).splitlines() for host in bed.hosts]

    assert [name for name, *_ in seen] == ["h1", "h2", "h3", "h4"]
    assert all(host.address in lines[1] for host, lines in zip(bed.hosts, seen, strict=True))
    assert len({lines[2] for lines in seen}) == 4
    assert all(int(lines[3]) < 10 for lines in seen)


def test_nothing_of_the_network_is_outside_the_world(bed: Testbed) -> None:
    links = subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True)

    assert "switch" not in links.stdout
    assert not Path("/run/netns/h1").exists()


def test_a_cut_cable_is_cut_and_a_healed_one_is_not(bed: Testbed) -> None:
    dial = "exec 3<>/dev/tcp/10.77.0.12/22"
    bed.host("h2").cut()
    cut = subprocess.run(bed.inside("timeout", "1", "bash", "-c", dial), check=False)
    bed.host("h2").heal()
    healed = subprocess.run(bed.inside("timeout", "20", "bash", "-c", dial), check=False)

    assert cut.returncode != 0
    assert healed.returncode == 0


def test_a_killed_maker_leaves_no_process(tmp_path: Path) -> None:
    maker = subprocess.Popen(
        [sys.executable, "-c", MAKER, str(tmp_path / "bed")],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert maker.stdout.readline() == b"up\n"
    made = descendants(maker.pid)
    maker.send_signal(signal.SIGKILL)
    maker.wait()
    maker.stdin.close()
    maker.stdout.close()

    assert len(made) >= 9  # the world, its first process, and for each host two
    assert eventually(lambda: not [pid for pid in made if is_alive(pid)], within_s=GONE_S)


def descendants(pid: int) -> list[int]:
    own = [process.pid for process in children(pid)]
    return [*own, *(one for child in own for one in descendants(child))]


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
