"""The supervisor's state machine: one table and one door.

Theory of operation. A controller first gathers its agents (GATHERING), asks the host of rank 0 for
a port that no generation had before and the storage whether the latest checkpoint is whole still
(RESERVING), and starts every rank (STARTING). Once all of them
have done a step the run is RUNNING. Whatever ends that should not have ended is a fault: the whole
generation is killed (STOPPING), and when its last rank is known to be gone and the last checkpoint
is committed or rejected, the next generation starts from the latest committed checkpoint. A budget
counts restarts since the last new checkpoint. A request to stop asks the ranks to save and leave
(LEAVING); a second one, and every verdict that is reached while ranks run, kills them (ENDING). In
ENDED nothing happens any more.

Two rules make this safe without any clock: a generation starts only when no rank of an older one
can be alive, and only a checkpoint that every rank of the current generation has staged is
committed. Deadlines decide when to give up, never what is true.

`handle` is pure: the same state and event give the same state and instructions, so a journal of
events is the whole history. A (phase, event) pair that is not in the table cannot happen; if it
does, the program is wrong and says so.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from launch.supervisor import endings, handlers, takeover
from launch.supervisor.events import (
    AgentAttached,
    AgentJoined,
    AgentLost,
    CheckpointCommitted,
    CheckpointRejected,
    CheckpointTorn,
    CheckpointVerified,
    Deadline,
    DeadlinePassed,
    Event,
    Happening,
    InstructionRefused,
    InterruptAsked,
    OfGeneration,
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
    StorageFailed,
)
from launch.supervisor.instructions import StartAgent
from launch.supervisor.run_state import Decision, Phase, State, armed

Handler = Callable[[State, Any], Decision]  # each handler names the one event it takes


class InvalidTransition(Exception):
    """An event that cannot happen in this phase happened: a bug; carries the journal's tail."""

    def __init__(self, *, phase: Phase, kind: str, tail: Iterable[str] = ()) -> None:
        self.phase = phase
        self.kind = kind
        self.tail = tuple(tail)
        lines = [f"no transition from {phase} on {kind}", *(f"  {line}" for line in self.tail)]
        super().__init__("\n".join(lines))


def open_run(opened: RunOpened, before: State | None = None) -> Decision:
    """The state in which a controller's reign begins; `before` is how the last one left the run."""
    if opened.takes_over is not None and before is not None:
        return takeover.take_over(replace(before, opened_at_s=opened.at_s), opened)
    state = State(
        opened_at_s=opened.at_s,
        terms=opened.terms,
        phase=Phase.GATHERING,
        generation=opened.generation,
        committed=opened.checkpoints,
    )
    waiting, deadline = armed(state, Deadline.JOIN, after_s=opened.terms.join_timeout_s)
    agents = tuple(StartAgent(agent_id=agent.agent_id) for agent in opened.terms.agents)
    return waiting, (*agents, *deadline)


def handle(state: State, event: Event) -> Decision:
    """The state after an event, and what is to be done; a stale event changes nothing.

    Raises:
        InvalidTransition: the event cannot happen in this phase.
    """
    if is_stale(state, event):
        return state, ()
    handler = TABLE.get((state.phase, type(event)))
    if handler is None:
        raise InvalidTransition(phase=state.phase, kind=event.KIND)
    return handler(state, event)


def is_stale(state: State, event: Event) -> bool:
    """Whether an event is of another generation, or a deadline that was replaced."""
    if isinstance(event, DeadlinePassed):
        return event.serial != state.deadline_serial
    return isinstance(event, OfGeneration) and event.generation != state.generation


def _rows() -> Mapping[type[Happening], Mapping[Phase, Handler]]:
    """The table as it is read: for each event, what it means in each phase."""
    h, e, t = handlers, endings, takeover
    attaching, gathering, reserving, starting, running, stopping, leaving, ending, _ = Phase
    training = (starting, running)
    with_ranks = (attaching, starting, running, stopping, leaving)
    return {
        AgentJoined: {gathering: h.join, stopping: h.join, leaving: h.note, ending: h.note},
        AgentAttached: {
            attaching: t.attach,
            **dict.fromkeys((stopping, leaving, ending), t.attach_late),
        },
        AgentLost: {
            attaching: t.lose_in_attach,
            **dict.fromkeys((gathering, reserving), h.lose_before_start),
            **dict.fromkeys(training, h.lose_in_training),
            stopping: e.lose_in_stop,
            leaving: e.lose_in_leave,
            ending: e.lose_in_end,
        },
        PortGranted: {gathering: h.note, reserving: h.grant_port},
        InstructionRefused: {
            gathering: h.note,
            **dict.fromkeys((attaching, reserving, starting, stopping), e.refuse_instruction),
            leaving: e.refuse_in_leave,
            ending: e.refuse_in_end,
        },
        RankStarted: dict.fromkeys((gathering, *with_ranks, ending), h.note),
        RanksStepping: {
            starting: h.step,
            **dict.fromkeys((attaching, running, stopping, leaving, ending), h.note),
        },
        # While agents gather, one that has just come back may still tell of the generation before.
        RankStaged: {**dict.fromkeys(with_ranks, h.stage), gathering: h.note, ending: h.note},
        RankFinished: {**dict.fromkeys(with_ranks, h.finish), gathering: h.note, ending: h.note},
        RankLeft: {**dict.fromkeys(with_ranks, h.leave), gathering: h.note, ending: h.note},
        RankRefused: {**dict.fromkeys((gathering, *with_ranks), e.refuse), ending: h.note},
        RankExited: {
            gathering: h.note,
            attaching: t.exit_in_attach,
            **dict.fromkeys(training, h.exit_in_training),
            **dict.fromkeys((stopping, ending), e.exit_in_stop),
            leaving: e.exit_in_leave,
        },
        RanksHung: {
            **dict.fromkeys(training, h.hang),
            **dict.fromkeys((stopping, ending), h.note),
            leaving: e.hang_in_leave,
        },
        # Answers to a generation that was given up before it started: the next one asks again.
        CheckpointVerified: {gathering: h.note, reserving: h.verify},
        CheckpointTorn: {gathering: h.note, reserving: h.fall_back},
        CheckpointCommitted: dict.fromkeys((*with_ranks, ending), h.commit),
        CheckpointRejected: dict.fromkeys((*with_ranks, ending), h.reject),
        InterruptAsked: {
            **dict.fromkeys(training, h.interrupt_training),
            **dict.fromkeys((gathering, reserving, stopping, leaving), e.interrupt),
            attaching: t.interrupt_attach,
            ending: h.note,
        },
        DeadlinePassed: {
            attaching: t.miss_attach,
            gathering: h.miss_agents,
            reserving: h.miss_port,
            **dict.fromkeys((stopping, ending), e.miss_stop),
            leaving: e.miss_leave,
        },
        StorageFailed: {
            **dict.fromkeys((gathering, reserving, *with_ranks), e.lose_storage),
            ending: h.note,
        },
    }


TABLE: Mapping[tuple[Phase, type[Happening]], Handler] = MappingProxyType(
    {(phase, event): handler for event, row in _rows().items() for phase, handler in row.items()}
)
