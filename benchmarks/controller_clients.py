"""The processes of `controller_scale.py clients`: a real controller, and agents that only speak.

python benchmarks/controller_clients.py controller FOLDER HOSTS
python benchmarks/controller_clients.py play FOLDER FIRST COUNT
"""

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from launch.rank_lines import CheckpointLine, StepLine
from launch.request import HostSlots, LaunchRequest, Supervision
from launch.run_directory import RunDirectory, write_whole
from launch.supervisor.observer import Silence, StepRow
from launch.supervisor.roster import AgentCall
from launch.supervisor.supervise import supervise
from launch.transport.link import Address, Link, dial
from launch.transport.reactor import Reactor
from launch.wire import (
    Beat,
    Hello,
    Leave,
    PortReserved,
    RankBeat,
    RankLine,
    ReservePort,
    Started,
    StartRanks,
    StopRanks,
    ToAgent,
    Welcome,
)

HOSTS, SLOTS, PROCESSES = 2048, 8, 4
STEP_S, CHECKPOINT_STEPS = 5.0, 6
LAST_STEP = 10**9
LIMIT_S = 900.0
_ACCOUNT_S = 0.5
_DIALLING_AT_ONCE = 16


def request_of(
    *, hosts: int, slots: int, argv: tuple[str, ...], last_step: int, beat_interval_s: float
) -> LaunchRequest:
    """Return a run of as many hosts at this machine's own address."""
    return LaunchRequest(
        run_name="scale",
        engine="none",
        argv=argv,
        env=(),
        files=(),
        hosts=tuple(
            HostSlots(name=f"h{i}", address="127.0.0.1", slots=slots) for i in range(hosts)
        ),
        last_step=last_step,
        supervision=Supervision(beat_interval_s=beat_interval_s, join_timeout_s=LIMIT_S),
    )


@dataclass(slots=True)
class Elsewhere:
    """An agent that another process plays."""

    ended: Callable[[str], None]

    def kill(self) -> None:
        """Say that it is gone."""
        self.ended("dismissed")


class ElsewhereStarter:
    """Starts nothing: the clients come by themselves."""

    def start(
        self,
        call: AgentCall,  # noqa: ARG002 - the contract's
        *,
        reactor: Reactor,  # noqa: ARG002
        ended: Callable[[str], None],
    ) -> Elsewhere:
        """Note whom to tell."""
        return Elsewhere(ended)


def controller(folder: str, hosts: int) -> None:
    """The controller's process."""
    directory = RunDirectory.create(Path(folder))
    request = request_of(
        hosts=hosts, slots=SLOTS, argv=("true",), last_step=LAST_STEP, beat_interval_s=1.0
    )
    supervise(request, directory=directory, starter=ElsewhereStarter(), observer=Counter())


class Counter(Silence):
    """Says each step, so that whoever measures knows that the run goes on."""

    def on_step(self, row: StepRow) -> None:
        """Say which."""
        sys.stdout.write(f"{row.step}\n")
        sys.stdout.flush()


class Client:
    """One host's agent, as far as the channel shows."""

    def __init__(self, reactor: Reactor, run: RunDirectory, agent_id: int) -> None:
        self.reactor, self.run, self.agent_id = reactor, run, agent_id
        self.ranks = range(agent_id * SLOTS, (agent_id + 1) * SLOTS)
        self.link: Link | None = None
        self.when_welcome: Callable[[], None] = lambda: None
        self.generation = self.step = 0
        self.is_training = False
        self.sent = {"beats": 0, "lines": 0}

    def begin(self) -> None:
        """Dial."""
        reign, secret = self.run.reign(), self.run.read_secret()
        if reign is None or secret is None:
            sys.exit("there is no controller")
        address = Address(host=reign.address, port=reign.port)
        dial(self.reactor, address=address, secret=secret, owner=self)

    def opened(self, link: Link) -> None:
        """Say who it is."""
        self.link = link
        link.send(
            Hello(
                host=f"h{self.agent_id}",
                agent_id=self.agent_id,
                pid=self.agent_id,
                slots=SLOTS,
                version="0",
                epoch=0,
                generation=0,
                ranks=(),
            )
        )

    def received(self, link: Link, record: ToAgent) -> None:
        """Answer as an agent would."""
        match record:
            case Welcome() if self.generation == self.step == 0:
                self.step = 1
                self.when_welcome()
            case ReservePort():
                link.send(PortReserved(generation=record.generation, port=29_500))
            case StartRanks():
                self.generation = record.generation
                for rank in self.ranks:
                    link.send(Started(generation=self.generation, rank=rank, pid=rank + 1))
                self.is_training = True
            case StopRanks() | Leave():
                self.reactor.stop()

    def skipped(self, link: Link, reason: str) -> None:  # noqa: ARG002
        """Never: both are of one version."""
        raise AssertionError(reason)

    def lost(self, link: Link, reason: str) -> None:  # noqa: ARG002
        """End with the controller."""
        self.link = None
        self.reactor.stop()

    def refused(self, reason: str) -> None:  # noqa: ARG002
        """Try again."""
        self.reactor.call_after(0.2, self.begin)

    def obey(self, word: str) -> None:
        """Do what a player was told."""
        if word == "b":
            self.beat()
        elif word == "s":
            self.train()

    def beat(self) -> None:
        """Send a beat with the marks of its ranks."""
        if self.link is None:
            return
        now_s = time.monotonic()
        marks = tuple(
            RankBeat(
                rank=rank,
                pid=rank + 1,
                seq=self.step * 100,
                step=self.step,
                mark_age_s=0.125,
                label="all_reduce dp",
            )
            for rank in self.ranks
        )
        self.link.send(Beat(monotonic_s=now_s, ranks=marks if self.generation else ()))
        self.sent["beats"] += 1

    def train(self) -> None:
        """Send a step line of each rank, now and then a checkpoint line, too."""
        if self.link is None:
            return
        for rank in self.ranks:
            loss = 2.5 if rank == HOSTS * SLOTS - 1 else None
            line = StepLine(
                step=self.step,
                loss=loss,
                grad_norm=None,
                learning_rate=1e-4,
                tokens=16_777_216,
                duration_s=STEP_S,
            )
            self.link.send(RankLine(generation=self.generation, rank=rank, record=line))
            self.sent["lines"] += 1
            if self.step % CHECKPOINT_STEPS == 0:
                part = CheckpointLine(step=self.step, path="/staging", duration_s=1.0)
                self.link.send(RankLine(generation=self.generation, rank=rank, record=part))
                self.sent["lines"] += 1
        self.step += 1


class Player:
    """One of the client processes: many agents, told what to do by letters."""

    def __init__(self, folder: str, first: int, count: int) -> None:
        self.reactor, self.run, self.first = Reactor(), RunDirectory(Path(folder)), first
        numbers = range(first, first + count)
        self.crowd = [Client(self.reactor, self.run, agent_id) for agent_id in numbers]
        self.waiting = list(self.crowd)

    def play(self) -> None:
        """Dial, a few at a time, and do as told until standard input ends."""
        for _ in range(_DIALLING_AT_ONCE):
            self.reactor.call_soon(self.dial_next)
        os.set_blocking(sys.stdin.fileno(), False)
        self.reactor.on_readable(sys.stdin.fileno(), self.told)
        self.account()
        self.reactor.run()
        os._exit(0)  # hundreds of connections need no good-bye

    def dial_next(self) -> None:
        """Let the next agent dial; it is followed when it is welcome."""
        if self.waiting:
            client = self.waiting.pop(0)
            client.when_welcome = self.dial_next
            client.begin()

    def told(self, words: bytes) -> None:
        """Have every agent do what a letter says."""
        for word in words.decode():
            for client in self.crowd:
                client.obey(word)
            self.account()
        if not words:
            self.reactor.stop()

    def account(self) -> None:
        """Write down how many train, and what was sent."""
        sums = [sum(client.sent[what] for client in self.crowd) for what in ("beats", "lines")]
        training = sum(client.is_training for client in self.crowd)
        write_whole(self.run.path / f"sent-{self.first}", json.dumps([training, *sums]))


def play(folder: str, first: int, count: int) -> None:
    """Be a player."""
    Player(folder, first, count).play()


if __name__ == "__main__":
    what, folder, *numbers = sys.argv[1:]
    {"controller": controller, "play": play}[what](folder, *map(int, numbers))
