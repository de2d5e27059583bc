"""What a controller costs: its state machine, 32 real agents, and 2,048 clients at 1 Hz.

    python benchmarks/controller_scale.py machine|agents|clients|all [TRIALS]

`clients` are four processes that speak the agents' protocol for 2,048 hosts of 8 ranks: a beat a
second with the marks of 8 ranks, a step line of every rank each 5 s, and a checkpoint line of each
rank every 30 s. The controller is the real one, in a process of its own, whose CPU seconds and
memory are read from /proc. Seconds are simulated: everybody is told what to send, and the next
second begins when all of it has been handled; so the figure is the same on a busy machine.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from controller_clients import HOSTS, LAST_STEP, LIMIT_S, PROCESSES, SLOTS, request_of

from launch.agent.archive import build_zipapp
from launch.launchers.local import ChildAgents
from launch.run_directory import RunDirectory
from launch.supervisor.events import (
    AgentJoined,
    AgentPlace,
    Event,
    PortGranted,
    RankExited,
    RankFinished,
    RankStaged,
    RunOpened,
    RunTerms,
)
from launch.supervisor.observer import Silence, StepRow
from launch.supervisor.run_state import State
from launch.supervisor.state import handle, open_run
from launch.supervisor.supervise import supervise

ROOT = Path(__file__).resolve().parents[1]
CLIENTS = Path(__file__).with_name("controller_clients.py")
SIMULATED_S = 5
LOOKS, LOOK_S = 8, 0.02
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


# The state machine alone.


def machine(trials: int) -> Iterator[tuple[str, list[float]]]:
    """CPU seconds of the pure state machine, by what happens."""
    for world_size in (1_024, 4_096, 16_384):
        rows: dict[str, list[float]] = {}
        for _ in range(trials):
            for name, seconds in machine_once(world_size).items():
                rows.setdefault(name, []).append(seconds)
        for name, values in rows.items():
            yield f"{name}, {world_size:,} ranks: CPU s", values


def machine_once(world_size: int) -> dict[str, float]:
    """Let one world join, stage a checkpoint, finish and exit."""
    hosts = world_size // SLOTS
    state, _ = open_run(
        RunOpened(at_s=0.0, epoch=1, terms=terms(hosts), generation=0, checkpoints=())
    )
    joins = [AgentJoined(at_s=0.0, agent_id=i, host="h", pid=1) for i in range(hosts)]
    staged = [RankStaged(at_s=0.0, generation=1, rank=r, step=1) for r in range(world_size)]
    ends: list[Event] = [
        RankFinished(at_s=0.0, generation=1, rank=r, step=LAST_STEP) for r in range(world_size)
    ]
    ends += [
        RankExited(at_s=0.0, generation=1, rank=r, exit_code=0, signal=None, tail=())
        for r in range(world_size)
    ]
    state, join_s = timed(state, joins)
    state, _ = handle(state, PortGranted(at_s=0.0, generation=1, port=1))
    state, stage_s = timed(state, staged)
    must(state.committing == (1,), "the checkpoint was not complete")
    _, end_s = timed(state, ends)
    return {"agents join": join_s, "a checkpoint": stage_s, "all finish and exit": end_s}


def timed(state: State, events: Iterable[Event]) -> tuple[State, float]:
    """Return the state after events, and the CPU seconds it took."""
    before = time.process_time()
    for event in events:
        state, _ = handle(state, event)
    return state, time.process_time() - before


def terms(hosts: int) -> RunTerms:
    """Return the terms of a run of as many hosts."""
    return RunTerms(
        agents=tuple(
            AgentPlace(agent_id=i, address="h", first_rank=SLOTS * i, slots=SLOTS)
            for i in range(hosts)
        ),
        last_step=LAST_STEP,
        max_restarts=3,
        keep_checkpoints=2,
        join_timeout_s=LIMIT_S,
        save_grace_s=60.0,
        stop_timeout_s=30.0,
        rendezvous_port=None,
    )


# 32 real agents.


class FirstStep(Silence):
    """Notes when the first step of all ranks was done."""

    def __init__(self) -> None:
        self.at_s: float | None = None

    def on_step(self, row: StepRow) -> None:  # noqa: ARG002
        """Note the first."""
        self.at_s = self.at_s or time.monotonic()


def agents_once(hosts: int = 32) -> dict[str, float]:
    """A real run of 32 agents of one rank each on this machine, to its third step and its end."""
    toy = ROOT / "tests" / "e2e" / "toy_rank.py"
    with tempfile.TemporaryDirectory() as place:
        directory = RunDirectory.create(Path(place) / "run")
        request = request_of(
            hosts=hosts,
            slots=1,
            argv=(sys.executable, "-I", "-S", str(toy), "--steps", "3", "--save-every", "9"),
            last_step=3,
            beat_interval_s=0.5,
        )
        build_zipapp(directory.agent_archive)
        observer, started_s = FirstStep(), time.monotonic()
        cpu_s = time.process_time()
        outcome = supervise(request, directory=directory, starter=ChildAgents(), observer=observer)
        cpu_s = time.process_time() - cpu_s
        ended_s = time.monotonic()
    must(outcome.exit_code == 0, outcome.reason)
    return {
        "32 agents, start to first step: s": (observer.at_s or ended_s) - started_s,
        "32 agents, start to end: s": ended_s - started_s,
        "32 agents, CPU of the controller in all: s": cpu_s,
    }


# 2,048 clients.


def scale(trials: int) -> Iterator[tuple[str, list[float]]]:
    """Start controller and clients, and let them live a few simulated seconds at a time."""
    with tempfile.TemporaryDirectory() as place, processes() as start:
        folder = Path(place) / "run"
        boss = start("controller", folder, HOSTS)
        wait_for((folder / "controller.json").exists)
        each = HOSTS // PROCESSES
        others = [start("play", folder, i * each, each) for i in range(PROCESSES)]
        everybody = [boss, *others]
        while sum(accounts_of(folder)[0]) < HOSTS:
            tell(others, "a")
            settle(everybody)
        yield "CPU of the controller until all ranks are started: s", [cpu_s_of(boss.pid)]
        seen = [window(folder, boss, others) for _ in range(trials)]
        for name in seen[0]:
            yield name, [figures[name] for figures in seen]
        journal = (folder / "journal.jsonl").stat().st_size / 1e6
        yield "journal at the end: MB", [journal]


def window(
    folder: Path, boss: "subprocess.Popen[bytes]", others: "list[subprocess.Popen[bytes]]"
) -> dict[str, float]:
    """Five simulated seconds: five beats of each agent, a step line of each rank."""
    before_s, others_s = cpu_s_of(boss.pid), sum(cpu_s_of(p.pid) for p in others)
    _, beats, lines = accounts_of(folder)
    for word in "bbbbbs":
        tell(others, word)
        settle([boss, *others])
    _, beats_now, lines_now = accounts_of(folder)
    must(boss.poll() is None, "the controller ended")
    took_s = cpu_s_of(boss.pid) - before_s
    sent = sum(beats_now) - sum(beats), sum(lines_now) - sum(lines)
    must(sent[0] == SIMULATED_S * HOSTS, f"{sent[0]} beats were sent")
    return {
        "CPU seconds of the controller a simulated second (cores)": took_s / SIMULATED_S,
        "records in five seconds": float(sum(sent)),
        "CPU of the controller a record: us": 1e6 * took_s / sum(sent),
        "memory of the controller: MB": rss_mb_of(boss.pid),
        "CPU seconds of all clients a simulated second": (
            sum(cpu_s_of(p.pid) for p in others) - others_s
        )
        / SIMULATED_S,
    }


def tell(others: "Iterable[subprocess.Popen[bytes]]", word: str) -> None:
    """Let every client do something."""
    for player in others:
        must(player.stdin is not None, "no pipe")
        os.write(player.stdin.fileno(), word.encode())  # type: ignore[union-attr]


def settle(everybody: "Iterable[subprocess.Popen[bytes]]") -> None:
    """Wait until nobody runs or wants to, for a while."""
    quiet, until_s = 0, time.monotonic() + LIMIT_S
    while quiet < LOOKS:
        must(time.monotonic() < until_s, "it never settles")
        is_quiet = all(state_of(process.pid) == "S" for process in everybody)
        quiet = quiet + 1 if is_quiet else 0
        time.sleep(LOOK_S)  # noqa: TID251 - a benchmark may look again


def state_of(pid: int) -> str:
    """Return `R` of a process that runs or wants to, `S` of one that waits."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def accounts_of(folder: Path) -> tuple[list[int], list[int], list[int]]:
    """What each player says: agents that train, beats sent, rank lines sent."""
    each = HOSTS // PROCESSES
    files = [folder / f"sent-{i * each}" for i in range(PROCESSES)]
    found = [json.loads(file.read_text()) if file.exists() else [0, 0, 0] for file in files]
    training, beats, lines = (list(column) for column in zip(*found, strict=True))
    return training, beats, lines


@contextmanager
def processes() -> Iterator[Callable[..., "subprocess.Popen[bytes]"]]:
    """Yield what starts a process of ours; all are killed at the end."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*words: object) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(
            [sys.executable, str(CLIENTS), *map(str, words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        started.append(process)
        return process

    try:
        yield start
    finally:
        for process in started:
            process.kill()
        for process in started:
            process.wait()


def wait_for(is_so: Callable[[], bool]) -> None:
    """Look until it is so."""
    until_s = time.monotonic() + LIMIT_S
    while not is_so():
        must(time.monotonic() < until_s, "nothing came")
        time.sleep(0.02)  # noqa: TID251 - a benchmark may look again


def cpu_s_of(pid: int) -> float:
    """Return the CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def rss_mb_of(pid: int) -> float:
    """Return the memory of a process in MB (10^6)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES / 1e6


def must(is_so: bool, otherwise: str) -> None:
    """End where a figure would be worth nothing."""
    if not is_so:
        sys.exit(otherwise)


def show(rows: Iterable[tuple[str, list[float]]]) -> None:
    """Print the figures."""
    print(f"{'figure':58} {'trials':>6} {'median':>9} {'least':>9} {'most':>9}")
    for name, values in rows:
        numbers = (median(values), min(values), max(values))
        print(f"{name:58} {len(values):6} " + " ".join(f"{n:9.3g}" for n in numbers), flush=True)


def agents(trials: int) -> Iterator[tuple[str, list[float]]]:
    """Run 32 agents again and again."""
    rows: dict[str, list[float]] = {}
    for _ in range(trials):
        for name, value in agents_once().items():
            rows.setdefault(name, []).append(value)
    yield from rows.items()


def main() -> None:
    """Measure what was asked for."""
    what, *words = sys.argv[1:] or ["all"]
    trials = int(words[0]) if words else 10
    load = json.dumps([round(n, 1) for n in os.getloadavg()])
    print(f"{platform.machine()}, Python {platform.python_version()}, load {load}\n")
    figures = {"machine": machine, "agents": agents, "clients": scale}
    for name, measure in figures.items():
        if what in {name, "all"}:
            show(measure(trials))
            print()


if __name__ == "__main__":
    main()
