"""Awkward names and OpenSSH's own ways, over real ssh: quoting, users, keys, jumps, masters."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from launch.launchers.ssh.command import shell_text
from tests.e2e.ssh_supervised import PATIENCE, SshToyRun
from tests.e2e.testbed import USERS, Testbed

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")
GONE_S = 10.0
AWKWARD = "a 'b' \"c\"\n$d `e` \\f *;&|<>(){}!#~ ü"


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    with Testbed(tmp_path_factory.mktemp("hosts") / "bed 'of' $4") as four_hosts:
        yield four_hosts


def ssh_start(bed: Testbed, folder: Path, **spec: object) -> dict:
    plain = {"config_file": str(bed.ssh_config), "options": PATIENCE}
    return {"spec": plain | spec, "working_folder": str(folder)}


def test_every_word_arrives_as_it_is(bed: Testbed) -> None:
    words = [AWKWARD, "", " ", "\n", "-n", "--", "'", "\\", "a\tb", "%s", "=x", "~root"]
    program = "import json,sys;print(json.dumps(sys.argv[1:]))"
    text = shell_text([sys.executable, "-c", program, *words])

    command = bed.inside("ssh", "-F", bed.ssh_config, "--", "h1", text)
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert json.loads(said) == words


@pytest.mark.parametrize("user", USERS)
def test_users_keys_and_paths_may_have_any_name(bed: Testbed, tmp_path: Path, user: str) -> None:
    place = tmp_path / AWKWARD.replace("/", "")
    place.mkdir()
    key = place / "key"
    key.write_text((bed.folder / "id").read_text())
    key.chmod(0o600)
    config = place / "config"
    config.write_text(bed.ssh_config.read_text().replace("IdentityFile", "#"))
    (place / "venv").symlink_to(Path(sys.executable).parents[1])
    start = ssh_start(bed, place, user=user, identity_file=str(key), config_file=str(config))
    start["python"] = str(place / "venv" / "bin" / "python")

    with SshToyRun(bed, place / "run", steps=10, ssh=start) as run:
        code = run.end()

        assert code == 0, run.told
        assert run.told[0]["sentence"].startswith("preflight: 4 hosts are ready")
        assert bed.is_clean(within_s=GONE_S)


def test_a_name_that_looks_like_an_option_is_a_name(bed: Testbed, tmp_path: Path) -> None:
    names = ["-oProxyCommand=touch hacked", "rack_1.h-2", "H3", "h4"]
    hosts = [
        {"name": name, "address": host.address, "slots": 1}
        for name, host in zip(names, bed.hosts, strict=True)
    ]

    with SshToyRun(bed, tmp_path / "run", steps=10, hosts=hosts) as run:
        assert run.end() == 6
        told = " ".join(run.error.split())
        assert "hostname contains invalid characters" in told
        assert not list(tmp_path.rglob("hacked"))
        assert not (Path.cwd() / "hacked").exists()


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose sockets have names short enough."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


def test_jump_hosts_and_shared_connections_of_the_users_config_work(
    bed: Testbed, tmp_path: Path, short: Path
) -> None:
    config = tmp_path / "config"
    text = bed.ssh_config.read_text()
    jumps = "Host h2 h3 h4\n  ProxyJump h1\n"
    masters = f"Host *\n  ControlMaster auto\n  ControlPath {short}/%C\n  ControlPersist 10\n"
    config.write_text(jumps + masters + text)
    start = ssh_start(bed, tmp_path, config_file=str(config))

    with SshToyRun(bed, tmp_path / "run", steps=10, ssh=start) as run:
        code = run.end()
        for host in bed.hosts:
            leave = bed.inside("ssh", "-F", config, "-O", "exit", host.name)
            subprocess.run(leave, capture_output=True, check=False)

        assert code == 0, run.told
        assert run.outcome["restarts"] == []
        assert bed.is_clean(within_s=GONE_S)


def test_the_secret_is_seen_nowhere(bed: Testbed, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with SshToyRun(bed, folder, "--save-every", 1_000_000, steps=100_000) as run:
        run.until_step(10)
        secret = (folder / "secret").read_text().strip().encode()
        pids = [process.pid for process in bed.processes()]
        pids += [run.process.pid, *(pid for h in bed.hosts for pid in run.clients(h.name))]
        shown = [Path(f"/proc/{pid}/{what}") for pid in pids for what in ("cmdline", "environ")]
        files = [p for p in folder.rglob("*") if p.is_file() and p.name != "secret"]
        leaks = [path for path in (*shown, *files) if secret in path.read_bytes()]
        run.process.terminate()
        code = run.end()

        assert len(pids) >= 17
        assert leaks == []
        assert code == 130
