"""Real hosts on this machine: own network, process tree, mounts and name, and a real sshd each.

Everything lives in one outer set of namespaces, the *world*: the bridge between the hosts, their
names in /etc/hosts, /run. Its first process dies with the process that made it (PR_SET_PDEATHSIG),
and the kernel then ends every process in it and takes its network and mounts away. So even a killed
test leaves nothing behind, and two testbeds side by side do not see each other.

The controller's place is in the world, beside the hosts: 10.77.0.1, name `ctl`.
"""

import os
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

CONTROLLER = "10.77.0.1"
USERS = ("ada lovelace", "o$hara")
_UP_S = 20.0
_TICK_S = 0.01
_MARKER = "LLMORCH_TESTBED"
_FOLDERS = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"  # where Debian has ip, nft and sshd
_PATH = f"PATH={_FOLDERS}"


@dataclass(frozen=True, slots=True)
class Process:
    """A process as this machine sees it, whatever its number is in its own namespace."""

    pid: int
    command: tuple[str, ...]


class TestbedHost:
    """One host of a testbed."""

    __test__ = False

    def __init__(self, number: int, bed: "Testbed") -> None:
        self.name = f"h{number}"
        self.address = f"10.77.0.{10 + number}"
        self.folder = bed.folder / self.name
        self._bed = bed
        self._cable = f"v{number}"
        self.init = 0
        self._tree = ""

    def adopt(self) -> None:
        """Find the first process of the host once it is up."""
        marker = f"{_MARKER}={self._bed.name}/{self.name}".encode()
        (outer,) = (pid for pid in _pids() if _is_outer(pid, marker))
        (self.init,) = (pid for pid in _pids() if _parent(pid) == outer)
        self._tree = _tree(self.init)

    def processes(self) -> list[Process]:
        """What runs there beside sshd."""
        found = (Process(pid, _command(pid)) for pid in _pids() if _tree(pid) == self._tree)
        return [process for process in found if not _is_sshd(process)]

    def sessions(self) -> list[int]:
        """The sshd processes of connections."""
        there = (pid for pid in _pids() if _tree(pid) == self._tree and pid != self.init)
        return [pid for pid in there if _is_sshd(Process(pid, _command(pid)))]

    def run(self, *words: object, text: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command on the host, as somebody at its console would."""
        enter = ("nsenter", "-t", str(self.init), "--all", "--", "env", _PATH, *map(str, words))
        return subprocess.run(enter, capture_output=True, text=True, input=text, check=True)

    def crash(self) -> None:
        """End every process of the host at once; its network still answers."""
        os.kill(self.init, signal.SIGKILL)

    def cut(self) -> None:
        """Pull the network cable."""
        self._bed.run("ip", "link", "set", self._cable, "down")

    def heal(self) -> None:
        """Plug the network cable in again."""
        self._bed.run("ip", "link", "set", self._cable, "up")


class Testbed:
    """Hosts h1, h2 ... and the network between them; use it as a context."""

    __test__ = False

    def __init__(self, folder: Path, *, hosts: int = 4) -> None:
        self.folder = folder
        self.name = f"{os.getpid()}-{folder.name}"
        self.hosts = tuple(TestbedHost(number + 1, self) for number in range(hosts))
        self.log: list[str] = []
        self._is_up = threading.Event()
        self._came_up = False

    @property
    def ssh_config(self) -> Path:
        """What ssh needs to know: keys, and where the hosts are."""
        return self.folder / "ssh_config"

    @property
    def hostfile(self) -> Path:
        """A line for each host."""
        return self.folder / "hosts.txt"

    def __enter__(self) -> Self:
        for tool in ("sshd", "ip", "nft", "nsenter", "unshare"):
            assert shutil.which(tool, path=_FOLDERS), f"{tool} is missing; see docker/setup.sh"
        self._write_files()
        self._outer = subprocess.Popen(
            [
                *("unshare", "--net", "--mount", "--pid", "--uts", "--fork", "--kill-child=KILL"),
                *("--", "sh", "-eu", str(self.folder / "world.sh")),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"PATH": _FOLDERS},
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - it calls one C function
        )
        threading.Thread(target=self._listen, daemon=True).start()
        try:
            assert self._is_up.wait(_UP_S), f"no hosts in time: {self.log}"
            assert self._came_up, f"no hosts: {self.log}"
            (self.init,) = (pid for pid in _pids() if _parent(pid) == self._outer.pid)
            for host in self.hosts:
                host.adopt()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._outer.kill()  # its child dies with it, and with that every process of the world
        self._outer.wait()

    def host(self, name: str) -> TestbedHost:
        """The host of that name."""
        return next(host for host in self.hosts if host.name == name)

    def inside(self, *words: object, folder: Path | str = "/") -> list[str]:
        """The command that runs another at the controller's place; use `die_with_parent`, too."""
        enter = ("nsenter", "-t", str(self.init), "--net", "--mount", "--uts", "--")
        return [*enter, "env", "-C", str(folder), _PATH, *map(str, words)]

    def run(self, *words: object) -> subprocess.CompletedProcess[str]:
        """Run a command at the controller's place."""
        return subprocess.run(self.inside(*words), capture_output=True, text=True, check=True)

    def processes(self) -> list[Process]:
        """What runs on all hosts, beside sshd."""
        return [process for host in self.hosts for process in host.processes()]

    def is_clean(self, *, within_s: float) -> bool:
        """Whether nothing but sshd runs on any host, in time."""
        return eventually(lambda: not self.processes(), within_s=within_s)

    def _listen(self) -> None:
        waiting = len(self.hosts)
        for line in self._outer.stdout:
            self.log.append(line.rstrip())
            waiting -= "Server listening on" in line
            if waiting == 0:
                self._came_up = True
                self._is_up.set()
        self._is_up.set()  # it ended; whether it ever came up is written down
        self._outer.stdout.close()

    def _write_files(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for key in ("id", "hostkey"):
            words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / key]
            subprocess.run(words, check=True)
        hostkey = (self.folder / "hostkey.pub").read_text().split()[:2]
        names = [("127.0.0.1", "localhost"), (CONTROLLER, "ctl")]
        names += [(host.address, host.name) for host in self.hosts]
        write = {
            "hosts": "".join(f"{address} {name}\n" for address, name in names),
            "hosts.txt": "".join(f"{host.name}\n" for host in self.hosts),
            "known_hosts": f"10.77.0.* {' '.join(hostkey)}\n",
            "passwd": Path("/etc/passwd").read_text() + "".join(map(_account, USERS)),
            "ssh_config": self._config_of_ssh(),
            "world.sh": self._world(),
        }
        for name, text in write.items():
            (self.folder / name).write_text(text)
        for host in self.hosts:
            host.folder.mkdir()
            (host.folder / "sshd_config").write_text(self._config_of_sshd(host))

    def _config_of_ssh(self) -> str:
        lines = [f"Host {host.name}\n  HostName {host.address}" for host in self.hosts]
        return "\n".join(
            (
                *lines,
                "Host *",
                "  User root",
                f'  IdentityFile "{self.folder}/id"',
                "  IdentitiesOnly yes",
                f'  UserKnownHostsFile "{self.folder}/known_hosts"',
                "  GlobalKnownHostsFile none",
                "",
            )
        )

    def _config_of_sshd(self, host: TestbedHost) -> str:
        return "\n".join(
            (
                f"ListenAddress {host.address}",
                f'HostKey "{self.folder}/hostkey"',
                "PidFile none",
                f'AuthorizedKeysFile "{self.folder}/id.pub"',
                "StrictModes no",
                "UsePAM no",
                "PasswordAuthentication no",
                "PermitRootLogin prohibit-password",
                "",
            )
        )

    def _world(self) -> str:
        folder = shlex.quote(str(self.folder))
        lines = [
            "mount -t proc proc /proc",
            "mount -t tmpfs tmpfs /run",  # network namespaces and sshd's folder, of this world
            "mkdir /run/sshd",
            f"mount --bind {folder}/hosts /etc/hosts",
            f"mount --bind {folder}/passwd /etc/passwd",
            "hostname ctl",
            "ip link set lo up",
            "ip link add name switch type bridge forward_delay 0",
            f"ip addr add {CONTROLLER}/24 dev switch",
            "ip link set switch up",
        ]
        for host in self.hosts:
            lines += self._birth(host)
        return "\n".join((*lines, "while :; do wait; sleep 3600; done", ""))

    def _birth(self, host: TestbedHost) -> list[str]:
        name, cable = host.name, host._cable
        first = "; ".join(
            (
                f"hostname {name}",
                "mount -t proc proc /proc",
                f"exec {shutil.which('sshd', path=_FOLDERS)} -D -e -f "
                + shlex.quote(str(host.folder / "sshd_config")),
            )
        )
        own = "unshare --uts --pid --mount --fork --kill-child=KILL"
        marker = shlex.quote(f"{_MARKER}={self.name}/{name}")
        return [
            f"ip netns add {name}",
            f"ip link add {cable} type veth peer name eth0 netns {name}",
            f"ip link set {cable} master switch up",
            f"ip -n {name} link set lo up",
            f"ip -n {name} link set eth0 up",
            f"ip -n {name} addr add {host.address}/24 dev eth0",
            f"env {marker} ip netns exec {name} {own} -- sh -euc {shlex.quote(first)} &",
        ]


def eventually(is_so: Callable[[], bool], *, within_s: float) -> bool:
    """Look until it is so, or the time is over."""
    deadline_s = time.monotonic() + within_s
    while not is_so():
        if time.monotonic() > deadline_s:
            return False
        signal.sigtimedwait([], _TICK_S)
    return True


def children(parent: int) -> list[Process]:
    """The child processes of one of this machine's."""
    return [Process(pid, _command(pid)) for pid in _pids() if _parent(pid) == parent]


def die_with_parent() -> None:
    """Ask the kernel to end this process with its parent; for `preexec_fn`."""
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)


def _account(name: str) -> str:
    return f"{name}:x:0:0::/root:/bin/sh\n"


def _pids() -> Iterable[int]:
    return (int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal())


def _is_outer(pid: int, marker: bytes) -> bool:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        return marker in environment and Path(f"/proc/{pid}/comm").read_text() == "unshare\n"
    except OSError:
        return False


def _parent(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def _tree(pid: int) -> str | None:
    try:
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    except OSError:
        return None


def _command(pid: int) -> tuple[str, ...]:
    try:
        words: Sequence[bytes] = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return ()
    return tuple(word.decode(errors="replace") for word in words)


def _is_sshd(process: Process) -> bool:
    return not process.command or "sshd" in process.command[0]
