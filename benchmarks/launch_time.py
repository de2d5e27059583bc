"""Launch to first step: llmorch beside torchrun, DeepSpeed's launcher, and no launcher at all.

    python benchmarks/launch_time.py one-host|four-hosts [TRIALS]

Each trial starts a tool's command and ends when the last of four ranks has done its first step of
`benchmarks/gloo_step.py`; the tools take turns, so that a busy machine is busy for all of them.
`four-hosts` needs root, openssh-server, iproute2, nftables and pdsh (Debian's packages) and runs on
four hosts of `tests/e2e/testbed.py`: namespaces with a real sshd each, one rank a host. torchrun is
started on each host by pdsh, DeepSpeed starts itself by pdsh, llmorch by its ssh launcher.
"""

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

SCRIPT = ROOT / "benchmarks" / "gloo_step.py"
BIN = Path(sys.executable).parent
RANKS = 4
LIMIT_S = 400.0
PORT = 29_571


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """How a tool starts four ranks that leave their notes in a folder."""

    name: str
    commands: Callable[[Path], Sequence[Sequence[str]]]
    env: Mapping[str, str]


def trial(tool: Tool) -> dict[str, float]:
    """Start the ranks once; seconds from the command to the first step, and to its end."""
    with tempfile.TemporaryDirectory() as place:
        notes = Path(place)
        env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | tool.env
        commands = tool.commands(notes)
        output = (notes / "output").open("wb")
        begun_s = time.monotonic()
        running = [
            subprocess.Popen(
                c, env=env, stdout=output, stderr=output, cwd=notes, start_new_session=True
            )
            for c in commands
        ]
        codes = [waited_for(process) for process in running]
        ended_s = time.monotonic()
        output.close()
        found = [json.loads(path.read_text()) for path in sorted(notes.glob("rank-*"))]
        if len(found) < RANKS or any(codes):
            said = (notes / "output").read_text(errors="replace")[-3_000:]
            sys.exit(f"{tool.name}: exit codes {codes}, {len(found)} ranks stepped\n{said}")
    return {
        "first step": max(note["stepped_s"] for note in found) - begun_s,
        "end": ended_s - begun_s,
    }


def waited_for(process: "subprocess.Popen[bytes]") -> int:
    """Return the exit code; what does not end is killed with all it started."""
    try:
        return process.wait(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.wait()


def run_of_llmorch(notes: str, hosts: str) -> int:
    """The process that is `llmorch launch` without the planning; see the page."""
    from launch.request import HostSlots, LaunchRequest, Supervision
    from launch.run_directory import RunDirectory
    from launch.supervisor.observer import Silence

    places = json.loads(hosts)
    slots = RANKS // len(places)
    request = LaunchRequest(
        run_name="bench",
        engine="none",
        argv=(sys.executable, str(SCRIPT), notes),
        env=(),
        files=(),
        hosts=tuple(HostSlots(name=n, address=a, slots=slots) for n, a in places),
        last_step=1,
        supervision=Supervision(max_restarts=0),
    )
    directory = RunDirectory.create(Path(notes) / "run")
    if len(places) == 1:
        from launch.launchers.local import LAUNCHER as LOCAL

        return int(LOCAL.submit(request, directory, Silence()).exit_code)
    return _by_ssh(request, directory)


def _by_ssh(request, directory) -> int:  # noqa: ANN001 - their modules are imported late
    from dataclasses import replace

    from launch.launchers.ssh.command import ssh_options
    from launch.launchers.ssh.launcher import LAUNCHER as SSH
    from launch.request import PreflightTerms, SshStart
    from launch.supervisor.observer import Silence
    from orchestrator.specs.remote import SshSpec

    config = os.environ["BENCH_SSH_CONFIG"]
    full = replace(
        request,
        controller_host=os.environ["BENCH_CONTROLLER"],
        ssh=SshStart(
            options=ssh_options(SshSpec.model_validate({"config_file": config})),
            parallel=8,
            python=sys.executable,
            working_folder=str(directory.path.parent),
        ),
        preflight=PreflightTerms(
            timeout_s=30.0,
            clock_skew_s=5.0,
            free_disk_bytes=1,
            gpus=0,
            gpu_used_bytes=0,
            packages=(),
        ),
    )
    return int(SSH.submit(full, directory, Silence()).exit_code)


def one_host() -> Iterator[Tool]:
    """The tools on this machine."""
    script = str(SCRIPT)
    here = json.dumps([["here", "127.0.0.1"]])
    me = [sys.executable, str(Path(__file__).resolve())]

    def bare(notes: Path) -> list[list[str]]:
        common = {"WORLD_SIZE": RANKS, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": PORT}
        return [
            [
                *("env", *(f"{k}={v}" for k, v in ({"RANK": r} | common).items())),
                *(sys.executable, script, str(notes)),
            ]
            for r in range(RANKS)
        ]

    def deepspeed(notes: Path) -> list[list[str]]:
        (notes / "hosts").write_text(f"localhost slots={RANKS}\n")
        words = ["--hostfile", str(notes / "hosts"), "--no_ssh_check"]
        words += ["--master_addr", "127.0.0.1", "--master_port", str(PORT + 1)]
        return [[str(BIN / "deepspeed"), *words, script, str(notes)]]

    yield Tool(name="no launcher", commands=bare, env={})
    yield Tool(
        name="llmorch",
        commands=lambda notes: [[*me, "llmorch", str(notes), here]],
        env={},
    )
    yield Tool(
        name="torchrun",
        commands=lambda notes: [
            [
                *(str(BIN / "torchrun"), "--standalone", "--nproc-per-node", str(RANKS)),
                *(script, str(notes)),
            ]
        ],
        env={},
    )
    yield Tool(name="deepspeed", commands=deepspeed, env={"DS_ACCELERATOR": "cpu"})


@contextmanager
def four_hosts() -> Iterator[list[Tool]]:
    """The tools on a testbed's hosts."""
    from tests.e2e.testbed import CONTROLLER, Testbed

    if shutil.which("pdsh") is None:
        sys.exit("pdsh is missing: apt-get install pdsh")
    with tempfile.TemporaryDirectory() as place, Testbed(Path(place) / "bed") as bed:
        script, me = str(SCRIPT), [sys.executable, str(Path(__file__).resolve())]
        places = json.dumps([[h.name, h.address] for h in bed.hosts])
        names = ",".join(h.name for h in bed.hosts)
        by_ssh = f"-F {bed.ssh_config} -o BatchMode=yes"
        pdsh = {"PDSH_RCMD_TYPE": "ssh", "PDSH_SSH_ARGS_APPEND": by_ssh}

        def inside(words: Sequence[str]) -> list[str]:
            # With the processes of the testbed, too: DeepSpeed looks itself up in /proc.
            return ["nsenter", "-t", str(bed.init), "--all", "--", "env", "-C", str(ROOT), *words]

        def torchrun(notes: Path) -> list[list[str]]:
            remote = (
                f"cd {ROOT} && OMP_NUM_THREADS=1 {BIN}/torchrun --nnodes 4 --nproc-per-node 1 "
                f"--rdzv-backend c10d --rdzv-endpoint h1:{PORT} --rdzv-id {notes.name} "
                f"--local-addr $(hostname) {script} {notes}"
            )
            return [inside(["pdsh", "-S", "-w", names, remote])]

        def deepspeed(notes: Path) -> list[list[str]]:
            (notes / "hosts").write_text("".join(f"{h.name} slots=1\n" for h in bed.hosts))
            words = ["--hostfile", str(notes / "hosts"), "--launcher", "pdsh"]
            words += ["--no_ssh_check", "--master_addr", bed.hosts[0].address]
            words += ["--master_port", str(PORT + 1)]
            return [inside([str(BIN / "deepspeed"), *words, script, str(notes)])]

        yield [
            Tool(
                name="llmorch, ssh with preflight",
                commands=lambda notes: [inside([*me, "llmorch", str(notes), places])],
                env={"BENCH_SSH_CONFIG": str(bed.ssh_config), "BENCH_CONTROLLER": CONTROLLER},
            ),
            Tool(name="torchrun over pdsh", commands=torchrun, env=pdsh),
            Tool(
                name="deepspeed over pdsh",
                commands=deepspeed,
                env={"DS_ACCELERATOR": "cpu", **pdsh},
            ),
        ]


def compare(tools: Sequence[Tool], trials: int) -> None:
    """Let the tools take turns and print what came of it."""
    seconds: dict[str, dict[str, list[float]]] = {tool.name: {} for tool in tools}
    for number in range(trials):
        for tool in tools[number % len(tools) :] + tools[: number % len(tools)]:
            found = trial(tool)
            for what, value in found.items():
                seconds[tool.name].setdefault(what, []).append(value)
            spoken = ", ".join(f"{what} {value:.2f} s" for what, value in found.items())
            print(f"round {number + 1}: {tool.name}: {spoken}", file=sys.stderr, flush=True)
    print(f"{'seconds from the command':44} {'median':>8} {'least':>8} {'most':>8}")
    for what in ("first step", "end"):
        for name, values in seconds.items():
            v = values[what]
            print(f"{f'{name}, to the {what}':44} {median(v):8.2f} {min(v):8.2f} {max(v):8.2f}")


def main() -> int:
    """Measure what was asked for."""
    what, *words = sys.argv[1:] or ["one-host"]
    if what == "llmorch":
        return run_of_llmorch(*words)
    trials = int(words[0]) if words else 10
    versions = f"torch {metadata.version('torch')}, deepspeed {metadata.version('deepspeed')}"
    load = [round(n, 1) for n in os.getloadavg()]
    print(f"{what}: {platform.machine()}, {os.cpu_count()} cores, {versions}, load {load}")
    print(f"{RANKS} ranks, {trials} trials each, in turns\n")
    if what == "one-host":
        compare(list(one_host()), trials)
    else:
        with four_hosts() as tools:
            compare(tools, trials)
    return 0


if __name__ == "__main__":
    sys.exit(main())
