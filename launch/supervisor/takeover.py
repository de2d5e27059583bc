"""What an event means while a new controller looks for the agents of a dead one.

Theory of operation. A controller that died left agents and ranks that go on for a lease. The next
one replays the journal, so it knows what its predecessor knew, and waits (ATTACHING) until each
agent has come back or is known to be gone. An agent that comes back says which ranks it runs, and
then tells again what it had to say of this generation; what is told twice changes nothing. When all
are accounted for, the run goes on in the phase in which it was left: training, when no rank was
lost; else it stops and starts again as after any other fault. Instructions that the dead controller
wrote and may not have carried out are given again.
"""

from dataclasses import replace

from launch.supervisor import handlers, moves
from launch.supervisor.budgets import Failure
from launch.supervisor.events import (
    AgentAttached,
    AgentLost,
    Deadline,
    DeadlinePassed,
    InterruptAsked,
    RankExited,
    RunOpened,
)
from launch.supervisor.instructions import (
    AttachAgent,
    CommitCheckpoint,
    DeleteCheckpoint,
    Instruction,
    Say,
    StartAgent,
)
from launch.supervisor.number_set import EMPTY
from launch.supervisor.run_state import (
    Decision,
    Phase,
    State,
    armed,
    disarmed,
    spoken,
    without_agent,
    without_ranks_of,
)
from launch.supervisor.verdict import Verdict

TAKEN_OVER = frozenset(
    (
        Phase.ATTACHING,
        Phase.STARTING,
        Phase.RUNNING,
        Phase.STOPPING,
        Phase.LEAVING,
        Phase.ENDING,
    )
)
_TRAINING = frozenset((Phase.STARTING, Phase.RUNNING))


def take_over(before: State, opened: RunOpened) -> Decision:
    """The state in which a reign begins that goes on with another's run."""
    left_in = before.left_in if before.phase is Phase.ATTACHING else before.phase
    state = replace(
        before,
        terms=opened.terms,
        phase=Phase.ATTACHING,
        left_in=left_in,
        joined=EMPTY,
        missing=EMPTY,
        unstarted=EMPTY,
    )
    agents = tuple(AttachAgent(agent_id=agent.agent_id) for agent in opened.terms.agents)
    said = Say(sentence=f"taking over generation {state.generation}, which was {left_in}")
    waiting, deadline = armed(state, Deadline.ATTACH, after_s=opened.terms.join_timeout_s)
    return waiting, (said, *agents, *_unfinished(before, opened), *deadline)


def attach(state: State, event: AgentAttached) -> Decision:
    """An agent came back; of another generation's order it never knew it has no ranks."""
    joined = replace(state, joined=state.joined.plus(event.agent_id))
    if event.generation != state.generation:
        fewer = without_ranks_of(joined, event.agent_id)
        joined = replace(fewer, unstarted=fewer.unstarted.plus(event.agent_id))
    return _go_on(joined)


def attach_late(state: State, event: AgentAttached) -> Decision:
    """An agent came back after it had been decided that its ranks are to end."""
    joined = replace(state, joined=state.joined.plus(event.agent_id))
    if event.generation != state.generation:
        joined = without_ranks_of(joined, event.agent_id)
    settled, instructions = moves.settle(joined)
    return settled, (*moves.kill(settled), *instructions)


def lose_in_attach(state: State, event: AgentLost) -> Decision:
    """An agent did not live through the change, and its ranks did not, either."""
    gone = without_agent(state, event.agent_id)
    return _go_on(replace(gone, missing=gone.missing.plus(event.agent_id)))


def miss_attach(state: State, event: DeadlinePassed) -> Decision:  # noqa: ARG001
    """Who has not come by now is taken for gone; a new life of it kills the old one first."""
    for agent in state.terms.agents:
        if agent.agent_id not in state.joined:
            gone = without_agent(state, agent.agent_id)
            state = replace(gone, missing=gone.missing.plus(agent.agent_id))
    return _go_on(state)


def exit_in_attach(state: State, event: RankExited) -> Decision:
    """A rank ended while nobody looked: kept in mind until all agents are accounted for."""
    fewer = replace(state, alive=state.alive.minus(event.rank))
    if event.exit_code == 0 and event.rank in state.finished:
        return fewer, ()
    if state.left_in not in _TRAINING or state.reason:
        return fewer, ()
    kept = replace(
        fewer,
        reason=moves.exit_sentence(event),
        failure=moves.failure_of(event),
        guilty=event.rank,
        tail=event.tail,
    )
    return kept, ()


def interrupt_attach(state: State, event: InterruptAsked) -> Decision:
    """The first request is kept until there are ranks to ask; the second one ends the run."""
    if state.left_in not in _TRAINING:
        return moves.end(state, Verdict.INTERRUPTED, f"ended by {event.signal}")
    said = Say(sentence=f"{event.signal}: the ranks are asked to leave when agents are back")
    return replace(state, left_in=Phase.LEAVING), (said,)


def _unfinished(before: State, opened: RunOpened) -> tuple[Instruction, ...]:
    """Storage work that was decided upon and may not have been done; doing it twice is harmless."""
    known = {*before.committed, *before.committing}
    return (
        *(CommitCheckpoint(generation=before.generation, step=s) for s in before.committing),
        *(DeleteCheckpoint(step=s) for s in opened.checkpoints if s not in known),
    )


def _go_on(state: State) -> Decision:
    accounted = len(state.joined) + len(state.missing)
    if accounted < len(state.terms.agents):
        return state, ()
    awake = disarmed(replace(state, phase=state.left_in, missing=EMPTY, unstarted=EMPTY))
    starts = tuple(StartAgent(agent_id=i) for i in state.missing)
    if state.left_in in _TRAINING:
        decided, instructions = _train_on(state, awake)
    elif state.left_in is Phase.LEAVING and not (starts or state.unstarted or state.reason):
        decided, instructions = handlers.ask_to_leave(awake, "as it was asked before")
    else:
        decided, instructions = moves.stop(awake)
    if decided.phase in {Phase.ENDING, Phase.LEAVING, Phase.ENDED}:
        starts = ()
    return decided, (*starts, *instructions)


def _train_on(state: State, awake: State) -> Decision:
    """Back to training when every rank that should run does; else stop and start again."""
    at_s = state.opened_at_s
    calm = replace(awake, reason="", failure=None, guilty=None, tail=())
    if state.missing:
        names = tuple(state.place_of(i).spoken for i in state.missing)
        reason = f"{spoken(names)} did not live through the change of controllers"
        blamed = replace(calm, blamed=calm.blamed.union(state.missing))
        return moves.fault(blamed, reason, failure=Failure.HOST, at_s=at_s)
    if state.reason:
        return moves.fault(
            calm,
            state.reason,
            failure=state.failure or Failure.PROGRAM,
            at_s=at_s,
            guilty=state.guilty,
            tail=state.tail,
        )
    if state.unstarted:
        said = Say(sentence="not all ranks had been started: stopping those that were")
        stopped, instructions = moves.stop(replace(calm, phase=Phase.STOPPING))
        return stopped, (said, *instructions)
    settled, instructions = moves.settle(calm)
    said = Say(sentence=f"all agents are back: generation {calm.generation} trains on")
    return settled, (said, *instructions)
