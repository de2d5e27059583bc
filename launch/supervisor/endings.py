"""What an event means when something ends: a generation, a reign, the storage, patience.

`launch.supervisor.state` has the table.
"""

from dataclasses import replace

from launch.supervisor import moves
from launch.supervisor.budgets import Failure
from launch.supervisor.events import (
    AgentLost,
    DeadlinePassed,
    InstructionRefused,
    InterruptAsked,
    RankExited,
    RankRefused,
    RanksHung,
    StorageFailed,
)
from launch.supervisor.instructions import Say, StartAgent
from launch.supervisor.run_state import Decision, State, spoken, without_agent, without_ranks_of
from launch.supervisor.verdict import Verdict


def interrupt(state: State, event: InterruptAsked) -> Decision:
    """There is nothing to save, or no patience to wait for it."""
    return moves.end(state, Verdict.INTERRUPTED, f"ended by {event.signal}")


def refuse(state: State, event: RankRefused) -> Decision:
    """The engine refuses; a restart would be refused as well."""
    return moves.end(state, Verdict.REFUSED, event.reason)


def refuse_instruction(state: State, event: InstructionRefused) -> Decision:
    """A host cannot do what the run needs; its agent has cleaned up."""
    gone = without_ranks_of(state, event.agent_id)
    return moves.end(gone, Verdict.HOST, event.reason)


def lose_storage(state: State, event: StorageFailed) -> Decision:
    """Without a journal and checkpoints there is no run."""
    return moves.end(state, Verdict.STORAGE, f"{event.path}: {event.reason}")


def exit_in_stop(state: State, event: RankExited) -> Decision:
    """One less to wait for."""
    return moves.settle(replace(state, alive=state.alive.minus(event.rank)))


def lose_in_stop(state: State, event: AgentLost) -> Decision:
    """An agent went while its ranks were being stopped; the first loss is part of the fault."""
    if event.agent_id in state.blamed:
        return lose_twice(state, event)
    gone = without_agent(state, event.agent_id)
    settled, instructions = moves.settle(replace(gone, blamed=gone.blamed.plus(event.agent_id)))
    who = state.place_of(event.agent_id).spoken
    said = Say(sentence=f"{who} is gone, starting it again: {event.reason}")
    return settled, (said, StartAgent(agent_id=event.agent_id), *instructions)


def lose_twice(state: State, event: AgentLost) -> Decision:
    """An agent that does not stay costs a restart of its own each time."""
    reason = f"{state.place_of(event.agent_id).spoken} is gone again ({event.reason})"
    gone = without_agent(state, event.agent_id)
    paid = moves.pay(gone, Failure.HOST, at_s=event.at_s)
    if isinstance(paid, moves.Overdraft):
        return moves.end(gone, Verdict.HOST, f"{reason}; {paid.reason}")
    settled, instructions = moves.settle(paid.state)
    said = Say(sentence=f"{reason}: starting it again ({paid.count})")
    return settled, (said, StartAgent(agent_id=event.agent_id), *instructions)


def miss_stop(state: State, event: DeadlinePassed) -> Decision:  # noqa: ARG001
    """Ranks cannot be killed (stuck in the kernel): their hosts cannot be used.

    A checkpoint that is still being committed is waited for, however slow the storage is.
    """
    if not state.alive:
        return state, ()
    limit = f"within {state.terms.stop_timeout_s:g} s of being killed"
    stuck = f"rank {spoken(tuple(state.alive))} did not end {limit}"
    reason = f"{state.reason}; {stuck}" if state.reason else stuck
    return moves.close(replace(state, verdict=state.verdict or Verdict.HOST, reason=reason))


def exit_in_leave(state: State, event: RankExited) -> Decision:
    """A rank that dies without having left leaves the others waiting for it: kill them."""
    fewer = replace(state, alive=state.alive.minus(event.rank))
    if event.rank in state.left or event.rank in state.finished or not fewer.alive:
        return moves.settle(fewer)
    said = Say(sentence=f"{moves.exit_sentence(event)} while leaving: killing the others")
    return fewer, (said, *moves.kill(fewer))


def hang_in_leave(state: State, event: RanksHung) -> Decision:
    """Ranks that hang will not leave: what they could not save is lost."""
    said = Say(sentence=f"{moves.hang_sentence(event)}; killing the ranks, which were to leave")
    return state, (said, *moves.kill(state))


def lose_in_leave(state: State, event: AgentLost) -> Decision:
    """An agent went while its ranks were leaving: the others wait in vain."""
    gone = without_agent(state, event.agent_id)
    settled, instructions = moves.settle(gone)
    return settled, (*moves.kill(settled), *instructions)


def refuse_in_leave(state: State, event: InstructionRefused) -> Decision:
    """An agent could not start its ranks, and the run was to end anyway."""
    gone = without_ranks_of(state, event.agent_id)
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
    return moves.settle(without_ranks_of(state, event.agent_id))
