"""Hosts, agents, ranks and storage as the supervisor meets them, without any of them.

The world carries out instructions, and lists what could happen next; whoever drives it chooses. An
agent's events arrive in the order in which they happened, those of different agents in any order,
and what an agent had still to say is lost with it: the rules of the real channel, no more.
"""

from collections import deque
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TypeVar

from launch.supervisor.events import (
    AgentAttached,
    AgentJoined,
    AgentLost,
    AgentPlace,
    CheckpointCommitted,
    CheckpointRejected,
    CheckpointTorn,
    CheckpointVerified,
    DeadlinePassed,
    Event,
    InstructionRefused,
    InterruptAsked,
    PortGranted,
    RankExited,
    RankFinished,
    RankLeft,
    RankRefused,
    RanksHung,
    RanksStepping,
    RankStaged,
    RankStarted,
    RunOpened,
    RunTerms,
    StorageFailed,
)
from launch.supervisor.instructions import (
    AskPort,
    AttachAgent,
    CloseRun,
    CommitCheckpoint,
    DeleteCheckpoint,
    Instruction,
    PutAsideCheckpoint,
    Say,
    SetDeadline,
    StartAgent,
    StartGeneration,
    StopGeneration,
    VerifyCheckpoint,
)
from launch.supervisor.journal import Decided, Happened, replay
from launch.supervisor.run_state import Phase
from launch.supervisor.state import handle, is_stale, open_run
from launch.supervisor.takeover import TAKEN_OVER
from launch.wire import StopHow

Order = TypeVar("Order", bound=Instruction)
_MOST_HAPPENINGS = 400


def terms_of(*, hosts: int = 2, slots: int = 2, last_step: int = 3, **changes) -> RunTerms:
    terms = RunTerms(
        agents=tuple(
            AgentPlace(
                agent_id=i,
                address=f"10.0.0.{i}",
                first_rank=i * slots,
                slots=slots,
                host=f"h{i}",
            )
            for i in range(hosts)
        ),
        last_step=last_step,
        max_restarts=3,
        keep_checkpoints=2,
        join_timeout_s=60.0,
        save_grace_s=60.0,
        stop_timeout_s=30.0,
        rendezvous_port=None,
    )
    return replace(terms, **changes)


@dataclass
class FakeRank:
    rank: int
    step: int
    is_asked: bool = False  # to save and leave
    is_killed: bool = False


@dataclass(frozen=True)
class Stepped:
    """A step line, which the controller counts and does not hand to the state machine."""

    rank: int
    step: int


@dataclass
class FakeAgent:
    place: AgentPlace
    is_present: bool = False
    is_coming: bool = False
    is_attaching: bool = False
    generation: int = 0  # of the last order it got
    told: list[Event] = field(default_factory=list)  # of that generation, to be told again
    ranks: dict[int, FakeRank] = field(default_factory=dict)
    says: deque[Event | Stepped] = field(default_factory=deque)


@dataclass(frozen=True)
class Choice:
    """Something that could happen now; a fault is nobody's intention."""

    name: str
    is_fault: bool = False


class FakeWorld:
    """Drives the state machine; breaks off with AssertionError when a rule of the run is broken."""

    def __init__(self, terms: RunTerms, *, cannot_start: frozenset[int] = frozenset()) -> None:
        self.cannot_start = cannot_start
        self._times = count(1)
        self._ports = count(40_000)
        self.terms = terms
        self.agents = {a.agent_id: FakeAgent(place=a) for a in terms.agents}
        self.generation = 0
        self.is_broken = False  # a rank died: the others wait for it in their collectives
        self.commits: list[CommitCheckpoint] = []
        self.verifications: list[VerifyCheckpoint] = []
        self.verified: int | None = None
        self.parts: dict[int, set[int]] = {}
        self.stored: set[int] = set()
        self.deadline: SetDeadline | None = None
        self.stepping: set[int] = set()
        self.starts_since_commit = 0
        self.agent_starts_since_commit = 0
        self.closed: CloseRun | None = None
        self.doom: tuple[int, int] | None = None  # instructions written, and done, before death
        self.takeovers = 0
        opened = RunOpened(at_s=self.now(), epoch=1, terms=terms, generation=0, checkpoints=())
        self.entries: list = [Happened(seq=1, event=opened, is_stale=False)]
        self.state, instructions = open_run(opened)
        self._carry_out(instructions)

    def now(self) -> float:
        return float(next(self._times))

    @property
    def is_over(self) -> bool:
        return self.state.phase is Phase.ENDED

    def let(self, *names: str) -> None:
        """Let named choices happen, one after the other."""
        for name in names:
            self.happen(next(c for c in self.choices() if c.name == name))

    def let_peace(self, *, until: Phase) -> None:
        """Let happen what is no fault until the run is in a phase."""
        for _ in range(_MOST_HAPPENINGS):
            if self.state.phase is until:
                return
            self.happen(next(c for c in self.choices() if not c.is_fault))
        raise AssertionError(f"{until} was never reached, the run is {self.state.phase}")

    def last(self, kind: type[Order]) -> Order:
        """The last instruction of a kind."""
        said = (e.instruction for e in reversed(self.entries) if isinstance(e, Decided))
        return next(instruction for instruction in said if isinstance(instruction, kind))

    def post(self, event: Event) -> None:
        """Let the supervisor know."""
        if self.is_over:
            return
        stale = is_stale(self.state, event)
        self.entries.append(Happened(seq=len(self.entries) + 1, event=event, is_stale=stale))
        self.state, instructions = handle(self.state, event)
        if self.doom is not None and not stale:
            self._die(instructions)
            return
        self._carry_out(instructions)

    def _die(self, instructions: tuple[Instruction, ...]) -> None:
        """The controller dies while it writes instructions, or while it carries them out."""
        (written, done), self.doom = self.doom, None
        if written < len(instructions):
            instructions, done = instructions[:written], 0
        for order in instructions:
            self.entries.append(Decided(seq=len(self.entries) + 1, instruction=order))
        for order in instructions[:done]:
            self._do(order)
        if self.closed is None:  # else it had said its last word
            self._take_over()

    def _take_over(self) -> None:
        """Another controller reads the journal and goes on."""
        before = replay(self.entries)
        assert before == self.state
        self.takeovers += 1
        self.deadline, unfinished = None, self.commits
        self.commits, self.verifications = [], []
        goes_on = before.phase in TAKEN_OVER
        for order in unfinished[: self.takeovers % 2]:  # some were done and nobody could say so
            self.stored.add(order.step)
        for agent in self.agents.values():
            agent.says.clear()
            agent.is_present = False
            if not goes_on:  # StartAgent kills what is left of them
                self._forget(agent)
        if before.phase is Phase.ENDED:
            self.closed = CloseRun(verdict=before.verdict, reason=before.reason)
            self.stored &= set(before.committed)  # what an ended run did not delete is only space
            return
        opened = RunOpened(
            at_s=self.now(),
            epoch=1 + self.takeovers,
            terms=self.terms,
            generation=before.generation,
            checkpoints=tuple(sorted(self.stored)),
            takes_over=before.generation if goes_on else None,
        )
        self.entries.append(Happened(seq=len(self.entries) + 1, event=opened, is_stale=False))
        self.state, instructions = open_run(opened, before)
        self._carry_out(instructions)

    def choices(self) -> list[Choice]:  # noqa: C901 - a table of words
        """What could happen now."""
        found = [Choice("interrupt", is_fault=True), Choice("storage fails", is_fault=True)]
        if self.deadline is not None:
            found.append(Choice("deadline passes", is_fault=True))
        if self.commits:
            is_done = self.commits[0].step in self.stored  # by a controller that died of it
            found += [Choice("commit")] + [Choice("reject", is_fault=True)] * (not is_done)
        if self.verifications:
            found += [Choice("verify"), Choice("tear", is_fault=True)]
        for i, agent in self.agents.items():
            if agent.is_coming and not agent.is_attaching:
                found += [Choice(f"join {i}"), Choice(f"fail to join {i}", is_fault=True)]
            if agent.is_attaching:
                found.append(Choice(f"attach {i}"))
                found.append(Choice(f"vanish-agent {i}", is_fault=True))
            if agent.is_present:
                found.append(Choice(f"lose {i}", is_fault=True))
            if agent.says:
                found.append(Choice(f"hear {i}"))
            for rank in agent.ranks.values():
                found += [Choice(f"go on {rank.rank}")] * (rank.is_killed or not self.is_broken)
                found += [Choice(f"vanish {rank.rank}", is_fault=True)] * (not rank.is_killed)
                found += [Choice(f"crash {rank.rank}", is_fault=True)] * (not rank.is_killed)
                is_seen = self.state.phase is not Phase.ATTACHING  # else it is seen afterwards
                hangs = is_seen and not rank.is_killed
                found += [Choice(f"hang {rank.rank}", is_fault=True)] * hangs
                found += [Choice(f"refuse {rank.rank}", is_fault=True)] * (rank.step == 0)
        return found

    def happen(self, choice: Choice) -> None:  # noqa: C901, PLR0912, PLR0915 - a table of words
        """Let one of the choices happen."""
        *verb, last = choice.name.split(" ")
        match " ".join(verb), last:
            case "", "interrupt":
                self.post(InterruptAsked(at_s=self.now(), signal="SIGINT"))
            case "storage", "fails":
                self.post(StorageFailed(at_s=self.now(), path="journal", reason="no space"))
            case "deadline", "passes":
                self._pass_deadline()
            case "", "commit":
                self._commit()
            case "", "reject":
                order = self.commits.pop(0)
                self.post(
                    CheckpointRejected(
                        at_s=self.now(), generation=order.generation, step=order.step, reason="hole"
                    )
                )
            case "", "verify":
                order = self.verifications.pop(0)
                self.verified = order.step
                self._answer(CheckpointVerified, order)
            case "", "tear":
                self._answer(CheckpointTorn, self.verifications.pop(0), reason="it is cut off")
            case "attach", agent:
                self._attach(self.agents[int(agent)])
            case "vanish-agent", agent:
                self._lose(self.agents[int(agent)])
            case "join", agent:
                self._join(self.agents[int(agent)])
            case (("fail to join" | "lose"), agent):
                self._lose(self.agents[int(agent)])
            case "hear", agent:
                self._hear(self.agents[int(agent)].says.popleft())
            case "hang", rank:
                self._hang(int(rank))
            case verb, rank:
                self._let_rank(verb, int(rank))

    def _hear(self, said: "Event | Stepped") -> None:
        if not isinstance(said, Stepped):
            self.post(said)
            return
        is_complete = self.stepping == self.terms.ranks
        self.stepping.add(said.rank)
        if not is_complete and self.stepping == self.terms.ranks:
            self.post(RanksStepping(at_s=self.now(), generation=self.generation, step=said.step))

    def _pass_deadline(self) -> None:
        order, self.deadline = self.deadline, None
        self.post(DeadlinePassed(at_s=self.now(), deadline=order.deadline, serial=order.serial))

    def _commit(self) -> None:
        order = self.commits.pop(0)
        if order.step > max(self.stored, default=0):
            self.starts_since_commit = self.agent_starts_since_commit = 0
        self.stored.add(order.step)
        self.post(
            CheckpointCommitted(at_s=self.now(), generation=order.generation, step=order.step)
        )

    def _answer(self, kind: type, order: VerifyCheckpoint, **facts) -> None:
        answer = kind(at_s=self.now(), generation=order.generation, step=order.step, **facts)
        self.post(answer)

    def _attach(self, agent: FakeAgent) -> None:
        agent.is_attaching = False
        if not (agent.is_coming or agent.generation or agent.told or agent.ranks):
            self._lose(agent)  # there is none
            return
        agent.is_coming, agent.is_present = False, True
        agent.says.extend(agent.told)
        self.post(
            AgentAttached(
                at_s=self.now(),
                agent_id=agent.place.agent_id,
                host="h",
                pid=1,
                generation=agent.generation,
                ranks=tuple(agent.ranks),
            )
        )

    def _join(self, agent: FakeAgent) -> None:
        agent.is_coming, agent.is_present = False, True
        self.post(AgentJoined(at_s=self.now(), agent_id=agent.place.agent_id, host="h", pid=1))

    def _lose(self, agent: FakeAgent) -> None:
        self._forget(agent)
        self.post(AgentLost(at_s=self.now(), agent_id=agent.place.agent_id, reason="gone"))

    def _forget(self, agent: FakeAgent) -> None:
        self.is_broken |= bool(agent.ranks)
        agent.is_coming = agent.is_present = agent.is_attaching = False
        agent.generation = 0
        agent.told.clear()
        agent.ranks.clear()
        agent.says.clear()

    def _hang(self, number: int) -> None:
        """A rank does nothing any more, and the controller sees it by the beats."""
        self.is_broken = True
        self.post(
            RanksHung(
                at_s=self.now(),
                generation=self.generation,
                rank=number,
                stalled_s=3.0,
                limit_s=2.0,
                phase="train",
                why="it stopped",
            )
        )

    def _let_rank(self, verb: str, number: int) -> None:
        agent = next(a for a in self.agents.values() if number in a.ranks)
        rank = agent.ranks[number]
        if verb == "refuse":
            self.is_broken = True
            self._say(agent, RankRefused, rank=number, reason="tp is too large")
            self._exit(agent, rank, exit_code=5)
        elif rank.is_killed:
            self._exit(agent, rank, signal=9)
        elif verb == "crash":
            self.is_broken = True
            self._exit(agent, rank, exit_code=1)
        elif verb == "vanish":
            self.is_broken = True
            self._exit(agent, rank, exit_code=0)
        else:
            self._train(agent, rank)

    def _train(self, agent: FakeAgent, rank: FakeRank) -> None:
        """One step, a staged checkpoint at its end, and out when it is asked to or done."""
        if rank.step < self.terms.last_step:
            rank.step += 1
            agent.says.append(Stepped(rank=rank.rank, step=rank.step))
        self.parts.setdefault(rank.step, set()).add(rank.rank)
        self._say(agent, RankStaged, rank=rank.rank, step=rank.step)
        if rank.step >= self.terms.last_step:
            self._say(agent, RankFinished, rank=rank.rank, step=rank.step)
            self._exit(agent, rank, exit_code=0)
        elif rank.is_asked:
            self._say(agent, RankLeft, rank=rank.rank, step=rank.step)
            self._exit(agent, rank, exit_code=0)

    def _exit(self, agent: FakeAgent, rank: FakeRank, **how) -> None:
        del agent.ranks[rank.rank]
        ended = {"exit_code": None, "signal": None} | how
        self._say(agent, RankExited, rank=rank.rank, tail=(), **ended)

    def _say(self, agent: FakeAgent, kind: type, **facts) -> None:
        said = kind(at_s=self.now(), generation=self.generation, **facts)
        if kind is not PortGranted:
            agent.told.append(said)
        if not agent.is_attaching:  # else it is told with the rest
            agent.says.append(said)

    def _carry_out(self, instructions: tuple[Instruction, ...]) -> None:
        for order in instructions:
            assert self.closed is None, f"{order} after the run was closed"
            self.entries.append(Decided(seq=len(self.entries) + 1, instruction=order))
            self._do(order)

    def _do(self, order: Instruction) -> None:  # noqa: C901 - a table of types
        match order:
            case StartAgent():
                self._start_agent(self.agents[order.agent_id])
            case AttachAgent():
                self.agents[order.agent_id].is_attaching = True
            case AskPort():
                self._answer_port(self.agents[order.agent_id], order)
            case StartGeneration():
                self._start_generation(order)
            case StopGeneration():
                self._stop(order)
            case CommitCheckpoint():
                self._check_commit(order)
                self.commits.append(order)
            case VerifyCheckpoint():
                self.verifications.append(order)
            case PutAsideCheckpoint():
                self.stored.discard(order.step)
                assert order.latest == max(self.stored, default=None), "latest is not the newest"
            case DeleteCheckpoint():
                assert order.step < max(self.stored), "the newest checkpoint was deleted"
                self.stored.remove(order.step)
            case SetDeadline():
                self.deadline = order
            case CloseRun():
                self.closed = order
            case Say():
                assert order.sentence

    def _start_agent(self, agent: FakeAgent) -> None:
        assert not agent.is_present, "an agent was started that is here"
        self.agent_starts_since_commit += 1
        self._forget(agent)  # whatever was left of it is killed first
        agent.is_coming = True

    def _answer_port(self, agent: FakeAgent, order: AskPort) -> None:
        self.generation = order.generation
        self.verified = None
        if order.port is not None:
            self._refuse(agent, f"port {order.port} is in use")
            return
        self._say(agent, PortGranted, port=next(self._ports))

    def _refuse(self, agent: FakeAgent, reason: str) -> None:
        self._say(agent, InstructionRefused, agent_id=agent.place.agent_id, reason=reason)

    def _start_generation(self, order: StartGeneration) -> None:
        alive = [rank for agent in self.agents.values() for rank in agent.ranks]
        assert not alive, f"generation {order.generation} starts while ranks {alive} run"
        assert not self.commits, "a generation starts while a checkpoint is being committed"
        assert order.resume_step == max(self.stored, default=None), "not the latest checkpoint"
        assert order.resume_step == self.verified, "from a checkpoint that nobody looked at"
        self.starts_since_commit += 1
        most = self.terms.max_restarts + 1 + self.takeovers
        assert self.starts_since_commit <= most, "over budget"
        self.parts, self.stepping, self.is_broken = {}, set(), False
        for agent in self.agents.values():
            assert agent.is_present, "ranks start on a host without an agent"
            agent.generation = order.generation
            agent.told.clear()
            if agent.place.agent_id in self.cannot_start:
                self._refuse(agent, "cannot start python: no such file")
                continue
            for rank in sorted(agent.place.ranks):
                agent.ranks[rank] = FakeRank(rank=rank, step=order.resume_step or 0)
                self._say(agent, RankStarted, rank=rank, pid=100 + rank)

    def _stop(self, order: StopGeneration) -> None:
        for agent in self.agents.values():
            for rank in agent.ranks.values():
                rank.is_killed |= order.how is StopHow.KILL
                rank.is_asked |= order.how is StopHow.SAVE

    def _check_commit(self, order: CommitCheckpoint) -> None:
        assert order.generation == self.generation, "a commit of another generation"
        assert self.parts[order.step] == self.terms.ranks, "a commit without every rank's part"
