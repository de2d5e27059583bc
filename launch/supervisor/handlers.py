"""What an event means while agents gather and while ranks train.

`launch.supervisor.state` has the table, `launch.supervisor.endings` the rest of the handlers.
"""

from dataclasses import replace

from launch.supervisor import moves
from launch.supervisor.budgets import Failure
from launch.supervisor.events import (
    AgentJoined,
    AgentLost,
    CheckpointCommitted,
    CheckpointRejected,
    CheckpointTorn,
    CheckpointVerified,
    Deadline,
    DeadlinePassed,
    Happening,
    InterruptAsked,
    PortGranted,
    RankExited,
    RankFinished,
    RankLeft,
    RanksHung,
    RanksStepping,
    RankStaged,
)
from launch.supervisor.instructions import (
    DeleteCheckpoint,
    PutAsideCheckpoint,
    Say,
    StartAgent,
    StartGeneration,
    StopGeneration,
)
from launch.supervisor.number_set import NumberSet
from launch.supervisor.run_state import (
    Decision,
    Phase,
    State,
    armed,
    disarmed,
    spoken,
    without_agent,
)
from launch.supervisor.verdict import Verdict
from launch.wire import StopHow

_LEAVE_MARGIN_S = 5.0  # the agents kill at the end of the grace; this is for their answers


def note(state: State, event: Happening) -> Decision:  # noqa: ARG001 - every handler has both
    """Nothing to decide: the journal has it."""
    return state, ()


def join(state: State, event: AgentJoined) -> Decision:
    """An agent came while ranks are stopped or agents awaited."""
    joined = replace(state, joined=state.joined.plus(event.agent_id))
    if state.phase is Phase.GATHERING and joined.is_gathered:
        return moves.reserve(joined)
    return joined, ()


def lose_before_start(state: State, event: AgentLost) -> Decision:
    """An agent went before its ranks started: start it again, within the budget."""
    gone = without_agent(state, event.agent_id)
    who = state.place_of(event.agent_id).spoken
    paid = moves.pay(gone, Failure.HOST, at_s=event.at_s)
    if isinstance(paid, moves.Overdraft):
        return moves.end(gone, Verdict.HOST, f"{who} is gone: {event.reason}; {paid.reason}")
    waiting, deadline = moves.next_generation(paid.state)
    said = Say(sentence=f"{who} is gone, starting it again ({paid.count}): {event.reason}")
    return waiting, (said, StartAgent(agent_id=event.agent_id), *deadline)


def miss_agents(state: State, event: DeadlinePassed) -> Decision:  # noqa: ARG001
    """Agents did not come in time."""
    missing = [a.spoken for a in state.terms.agents if a.agent_id not in state.joined]
    limit = f"within {state.terms.join_timeout_s:g} s"
    return moves.end(state, Verdict.HOST, f"{spoken(missing)} did not connect {limit}")


def miss_port(state: State, event: DeadlinePassed) -> Decision:  # noqa: ARG001
    """The agent did not answer."""
    limit = f"within {state.terms.join_timeout_s:g} s"
    first = state.terms.agents[0].spoken
    return moves.end(state, Verdict.HOST, f"{first} did not reserve a port {limit}")


def grant_port(state: State, event: PortGranted) -> Decision:
    """There is a port."""
    return _start_if_ready(replace(state, port=event.port))


def verify(state: State, event: CheckpointVerified) -> Decision:  # noqa: ARG001
    """The checkpoint to start from is whole."""
    return _start_if_ready(replace(state, is_verified=True))


def fall_back(state: State, event: CheckpointTorn) -> Decision:
    """The checkpoint to start from is torn: never resume from it, but from the one before."""
    whole = tuple(step for step in state.committed if step != event.step)
    older = replace(state, committed=whole, is_verified=not whole)
    whence = "from scratch" if not whole else f"from step {whole[-1]}"
    said = Say(
        sentence=f"the committed checkpoint of step {event.step} is torn ({event.reason}): "
        f"it is put aside as torn-step-{event.step}, and the run goes on {whence}"
    )
    aside = PutAsideCheckpoint(step=event.step, latest=older.resume_step)
    started, instructions = _start_if_ready(older)
    return started, (said, aside, *moves.verify(older), *instructions)


def _start_if_ready(state: State) -> Decision:
    """Start every rank when there is a port, and the checkpoint is known to be whole."""
    if state.port is None or not state.is_verified:
        return state, ()
    restarts = tuple(
        replace(r, resume_step=state.resume_step) if r is state.restarts[-1] else r
        for r in state.restarts
    )
    started = disarmed(
        replace(
            state,
            phase=Phase.STARTING,
            alive=NumberSet.below(state.terms.world_size),
            restarts=restarts,
        )
    )
    whence = "from scratch" if state.resume_step is None else f"from step {state.resume_step}"
    sentence = f"generation {state.generation} starts {whence} on {state.terms.world_size} ranks"
    order = StartGeneration(
        generation=state.generation, port=state.port, resume_step=state.resume_step
    )
    return started, (Say(sentence=f"{sentence}, rendezvous port {state.port}"), order)


def step(state: State, event: RanksStepping) -> Decision:
    """Every rank steps: the start, or a recovery, is complete."""
    running = replace(state, phase=Phase.RUNNING)
    if not state.restarts or state.restarts[-1].stepping_at_s is not None:
        return running, ()
    recovered = replace(state.restarts[-1], stepping_at_s=event.at_s)
    seconds = f"{recovered.recovery_s:.2f} s after the fault was noticed"
    said = Say(sentence=f"all ranks step again, {seconds}")
    return replace(running, restarts=(*state.restarts[:-1], recovered)), (said,)


def stage(state: State, event: RankStaged) -> Decision:
    """A rank's part of a checkpoint is on disk."""
    return moves.stage(state, step=event.step, rank=event.rank)


def finish(state: State, event: RankFinished) -> Decision:
    """A rank says it is done; before the last step that is no success."""
    if event.step < state.terms.last_step:
        return state, ()
    return replace(state, finished=state.finished.plus(event.rank)), ()


def leave(state: State, event: RankLeft) -> Decision:
    """A rank leaves after staging."""
    return replace(state, left=state.left.plus(event.rank)), ()


def exit_in_training(state: State, event: RankExited) -> Decision:
    """A clean exit comes after `finished`; any other is a fault."""
    fewer = replace(state, alive=state.alive.minus(event.rank))
    if event.exit_code == 0 and event.rank in state.finished:
        return moves.settle(fewer)
    return moves.fault(
        fewer,
        moves.exit_sentence(event),
        failure=moves.failure_of(event),
        at_s=event.at_s,
        guilty=event.rank,
        tail=event.tail,
    )


def hang(state: State, event: RanksHung) -> Decision:
    """Ranks live and make no progress: a fault like any other."""
    return moves.fault(
        state,
        moves.hang_sentence(event),
        failure=Failure.HANG,
        at_s=event.at_s,
        guilty=event.rank,
    )


def lose_in_training(state: State, event: AgentLost) -> Decision:
    """An agent went, and its ranks with it: a fault, and the agent is started again."""
    gone = without_agent(state, event.agent_id)
    reason = f"{state.place_of(event.agent_id).spoken} is gone ({event.reason})"
    stopping, instructions = moves.fault(
        replace(gone, blamed=gone.blamed.plus(event.agent_id)),
        reason,
        failure=Failure.HOST,
        at_s=event.at_s,
    )
    if stopping.verdict is not None:
        return stopping, instructions
    return stopping, (StartAgent(agent_id=event.agent_id), *instructions)


def commit(state: State, event: CheckpointCommitted) -> Decision:
    """A checkpoint is the latest now: the budget is whole again, old checkpoints go."""
    committing = tuple(s for s in state.committing if s != event.step)
    committed = tuple(sorted({*state.committed, event.step}))
    keep = state.terms.keep_checkpoints
    following = replace(
        state,
        committing=committing,
        committed=committed[-keep:],
        restarts_spent=0,
    )
    settled, instructions = moves.settle(following)
    deleted = tuple(DeleteCheckpoint(step=s) for s in committed[:-keep])
    said = Say(sentence=f"checkpoint of step {event.step} committed")
    return settled, (said, *deleted, *instructions)


def reject(state: State, event: CheckpointRejected) -> Decision:
    """A checkpoint is not whole: the next one may be, but after the last step there is none."""
    committing = tuple(s for s in state.committing if s != event.step)
    following = replace(state, committing=committing)
    reason = f"checkpoint of step {event.step} is not whole: {event.reason}"
    is_training = state.phase in {Phase.STARTING, Phase.RUNNING}
    if is_training and event.step >= state.terms.last_step:
        return moves.fault(following, reason, failure=Failure.CHECKPOINT, at_s=event.at_s)
    if state.phase is Phase.ATTACHING and event.step >= state.terms.last_step:
        is_first = not following.reason
        following = replace(
            following,
            reason=following.reason or reason,
            failure=Failure.CHECKPOINT if is_first else following.failure,
        )
    settled, instructions = moves.settle(following)
    return settled, (Say(sentence=reason), *instructions)


def interrupt_training(state: State, event: InterruptAsked) -> Decision:
    """Ask the ranks to save and leave."""
    return ask_to_leave(state, event.signal)


def ask_to_leave(state: State, why: str) -> Decision:
    """Ask the ranks to save and leave."""
    grace_s = state.terms.save_grace_s
    leaving, deadline = armed(
        replace(state, phase=Phase.LEAVING), Deadline.LEAVE, after_s=grace_s + _LEAVE_MARGIN_S
    )
    said = Say(sentence=f"{why}: the ranks save and leave; once more kills them")
    order = StopGeneration(generation=state.generation, how=StopHow.SAVE, grace_s=grace_s)
    return leaving, (said, order, *deadline)
