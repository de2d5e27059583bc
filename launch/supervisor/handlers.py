"""What each kind of event means in each phase; `launch.supervisor.state` has the table."""

from dataclasses import replace

from launch.supervisor import moves
from launch.supervisor.events import (
    AgentJoined,
    AgentLost,
    CheckpointCommitted,
    CheckpointRejected,
    Deadline,
    DeadlinePassed,
    Happening,
    InstructionRefused,
    InterruptAsked,
    PortGranted,
    RankExited,
    RankFinished,
    RankLeft,
    RankRefused,
    RanksStepping,
    RankStaged,
    StorageFailed,
)
from launch.supervisor.instructions import (
    DeleteCheckpoint,
    Say,
    StartAgent,
    StartGeneration,
    StopGeneration,
)
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


# Gathering agents and a port.


def join(state: State, event: AgentJoined) -> Decision:
    """An agent came while ranks are stopped or agents awaited."""
    joined = replace(state, joined=state.joined | {event.agent_id})
    if state.phase is Phase.GATHERING and joined.is_gathered:
        return moves.reserve(joined)
    return joined, ()


def lose_before_start(state: State, event: AgentLost) -> Decision:
    """An agent went before its ranks started: start it again, within the budget."""
    gone = without_agent(state, event.agent_id)
    if gone.restarts_spent >= gone.terms.max_restarts:
        return moves.end(gone, Verdict.HOST, f"agent {event.agent_id} is gone: {event.reason}")
    waiting, deadline = moves.next_generation(replace(gone, restarts_spent=gone.restarts_spent + 1))
    said = Say(sentence=f"agent {event.agent_id} is gone, starting it again: {event.reason}")
    return waiting, (said, StartAgent(agent_id=event.agent_id), *deadline)


def miss_agents(state: State, event: DeadlinePassed) -> Decision:  # noqa: ARG001
    """Agents did not come in time."""
    missing = [a.agent_id for a in state.terms.agents if a.agent_id not in state.joined]
    limit = f"within {state.terms.join_timeout_s:g} s"
    return moves.end(state, Verdict.HOST, f"agent {spoken(missing)} did not connect {limit}")


def miss_port(state: State, event: DeadlinePassed) -> Decision:  # noqa: ARG001
    """The agent did not answer."""
    limit = f"within {state.terms.join_timeout_s:g} s"
    first = state.terms.agents[0].agent_id
    return moves.end(state, Verdict.HOST, f"agent {first} did not reserve a port {limit}")


def start(state: State, event: PortGranted) -> Decision:
    """There is a port: start every rank."""
    ranks = state.terms.ranks
    restarts = tuple(
        replace(r, resume_step=state.resume_step) if r is state.restarts[-1] else r
        for r in state.restarts
    )
    started = disarmed(replace(state, phase=Phase.STARTING, alive=ranks, restarts=restarts))
    whence = "from scratch" if state.resume_step is None else f"from step {state.resume_step}"
    sentence = f"generation {state.generation} starts {whence} on {len(ranks)} ranks"
    order = StartGeneration(
        generation=state.generation, port=event.port, resume_step=state.resume_step
    )
    return started, (Say(sentence=f"{sentence}, rendezvous port {event.port}"), order)


# Training.


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
    return replace(state, finished=state.finished | {event.rank}), ()


def leave(state: State, event: RankLeft) -> Decision:
    """A rank leaves after staging."""
    return replace(state, left=state.left | {event.rank}), ()


def exit_in_training(state: State, event: RankExited) -> Decision:
    """A clean exit comes after `finished`; any other is a fault."""
    fewer = replace(state, alive=state.alive - {event.rank})
    if event.exit_code == 0 and event.rank in state.finished:
        return moves.settle(fewer)
    reason = moves.exit_sentence(event)
    return moves.fault(fewer, reason, at_s=event.at_s, tail=event.tail)


def lose_in_training(state: State, event: AgentLost) -> Decision:
    """An agent went, and its ranks with it: a fault, and the agent is started again."""
    gone = without_agent(state, event.agent_id)
    reason = f"agent {event.agent_id} is gone ({event.reason})"
    stopping, instructions = moves.fault(
        replace(gone, blamed=gone.blamed | {event.agent_id}), reason, at_s=event.at_s
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
        return moves.fault(following, reason, at_s=event.at_s)
    settled, instructions = moves.settle(following)
    return settled, (Say(sentence=reason), *instructions)


def interrupt_training(state: State, event: InterruptAsked) -> Decision:
    """Ask the ranks to save and leave."""
    grace_s = state.terms.save_grace_s
    leaving, deadline = armed(
        replace(state, phase=Phase.LEAVING), Deadline.LEAVE, after_s=grace_s + _LEAVE_MARGIN_S
    )
    said = Say(sentence=f"{event.signal}: the ranks save and leave; once more kills them")
    order = StopGeneration(generation=state.generation, how=StopHow.SAVE, grace_s=grace_s)
    return leaving, (said, order, *deadline)


# Endings.


def interrupt(state: State, event: InterruptAsked) -> Decision:
    """There is nothing to save, or no patience to wait for it."""
    return moves.end(state, Verdict.INTERRUPTED, f"ended by {event.signal}")


def refuse(state: State, event: RankRefused) -> Decision:
    """The engine refuses; a restart would be refused as well."""
    return moves.end(state, Verdict.REFUSED, event.reason)


def refuse_instruction(state: State, event: InstructionRefused) -> Decision:
    """A host cannot do what the run needs; its agent has cleaned up."""
    ranks = state.place_of(event.agent_id).ranks
    gone = replace(state, alive=state.alive - ranks)
    return moves.end(gone, Verdict.HOST, event.reason)


def lose_storage(state: State, event: StorageFailed) -> Decision:
    """Without a journal and checkpoints there is no run."""
    return moves.end(state, Verdict.STORAGE, f"{event.path}: {event.reason}")


def exit_in_stop(state: State, event: RankExited) -> Decision:
    """One less to wait for."""
    return moves.settle(replace(state, alive=state.alive - {event.rank}))


def lose_in_stop(state: State, event: AgentLost) -> Decision:
    """An agent went while its ranks were being stopped; the first loss is part of the fault."""
    if event.agent_id in state.blamed:
        return lose_twice(state, event)
    gone = without_agent(state, event.agent_id)
    settled, instructions = moves.settle(replace(gone, blamed=gone.blamed | {event.agent_id}))
    said = Say(sentence=f"agent {event.agent_id} is gone, starting it again: {event.reason}")
    return settled, (said, StartAgent(agent_id=event.agent_id), *instructions)


def lose_twice(state: State, event: AgentLost) -> Decision:
    """An agent that does not stay costs a restart of its own each time."""
    reason = f"agent {event.agent_id} is gone again ({event.reason})"
    gone = without_agent(state, event.agent_id)
    if gone.restarts_spent >= gone.terms.max_restarts:
        return moves.end(gone, Verdict.HOST, reason)
    settled, instructions = moves.settle(replace(gone, restarts_spent=gone.restarts_spent + 1))
    return settled, (Say(sentence=reason), StartAgent(agent_id=event.agent_id), *instructions)


def miss_stop(state: State, event: DeadlinePassed) -> Decision:  # noqa: ARG001
    """Ranks cannot be killed (stuck in the kernel): their hosts cannot be used.

    A checkpoint that is still being committed is waited for, however slow the storage is.
    """
    if not state.alive:
        return state, ()
    limit = f"within {state.terms.stop_timeout_s:g} s of being killed"
    stuck = f"rank {spoken(sorted(state.alive))} did not end {limit}"
    reason = f"{state.reason}; {stuck}" if state.reason else stuck
    return moves.close(replace(state, verdict=state.verdict or Verdict.HOST, reason=reason))


def exit_in_leave(state: State, event: RankExited) -> Decision:
    """A rank that dies without having left leaves the others waiting for it: kill them."""
    fewer = replace(state, alive=state.alive - {event.rank})
    if event.rank in state.left | state.finished or not fewer.alive:
        return moves.settle(fewer)
    said = Say(sentence=f"{moves.exit_sentence(event)} while leaving: killing the others")
    return fewer, (said, *moves.kill(fewer))


def lose_in_leave(state: State, event: AgentLost) -> Decision:
    """An agent went while its ranks were leaving: the others wait in vain."""
    gone = without_agent(state, event.agent_id)
    settled, instructions = moves.settle(gone)
    return settled, (*moves.kill(settled), *instructions)


def refuse_in_leave(state: State, event: InstructionRefused) -> Decision:
    """An agent could not start its ranks, and the run was to end anyway."""
    gone = replace(state, alive=state.alive - state.place_of(event.agent_id).ranks)
    settled, instructions = moves.settle(gone)
    return settled, (*moves.kill(settled), *instructions)


def miss_leave(state: State, event: DeadlinePassed) -> Decision:  # noqa: ARG001
    """The grace is over; a checkpoint that is still being committed is waited for."""
    if not state.alive:
        return state, ()
    return moves.end(state, Verdict.INTERRUPTED, "stopped by request; the ranks did not leave")


def lose_in_end(state: State, event: AgentLost) -> Decision:
    """Its ranks are gone, and it is not needed any more."""
    return moves.settle(without_agent(state, event.agent_id))


def refuse_in_end(state: State, event: InstructionRefused) -> Decision:
    """It runs nothing, and the run is over."""
    ranks = state.place_of(event.agent_id).ranks
    return moves.settle(replace(state, alive=state.alive - ranks))
