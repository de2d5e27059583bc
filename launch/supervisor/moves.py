"""Moves that several handlers make: start a generation, answer a fault, end, go on when quiet."""

import signal
from dataclasses import dataclass, replace

from launch.supervisor.budgets import Failure, charge
from launch.supervisor.events import Deadline, RankExited, RanksHung
from launch.supervisor.instructions import (
    AskPort,
    CloseRun,
    CommitCheckpoint,
    Instruction,
    Say,
    StopGeneration,
    VerifyCheckpoint,
)
from launch.supervisor.number_set import EMPTY
from launch.supervisor.run_state import Decision, Phase, Restart, State, armed, disarmed
from launch.supervisor.verdict import Verdict
from launch.wire import StopHow


def reserve(state: State) -> Decision:
    """All agents are here: ask for what the next generation needs.

    That is a port of its own on rank 0's host, and a checkpoint that is whole still.
    """
    generation = state.generation + 1
    fresh = replace(
        state,
        phase=Phase.RESERVING,
        generation=generation,
        alive=EMPTY,
        staged=(),
        finished=EMPTY,
        left=EMPTY,
        blamed=EMPTY,
        port=None,
        is_verified=state.resume_step is None,
    )
    waiting, deadline = armed(fresh, Deadline.PORT, after_s=state.terms.join_timeout_s)
    first = state.terms.agents[0].agent_id
    port = state.terms.rendezvous_port
    ask = AskPort(agent_id=first, generation=generation, port=port)
    return waiting, (ask, *verify(waiting), *deadline)


def verify(state: State) -> tuple[Instruction, ...]:
    """The instruction to look at the checkpoint to start from, if there is one."""
    if state.resume_step is None:
        return ()
    return (VerifyCheckpoint(generation=state.generation, step=state.resume_step),)


def next_generation(state: State) -> Decision:
    """Start again, as soon as every agent is here."""
    if state.is_gathered:
        return reserve(state)
    return armed(
        replace(state, phase=Phase.GATHERING), Deadline.JOIN, after_s=state.terms.join_timeout_s
    )


def fault(
    state: State,
    reason: str,
    *,
    failure: Failure,
    at_s: float,
    guilty: int | None = None,
    tail: tuple[str, ...] = (),
) -> Decision:
    """Something ended that should not have: stop the generation and try again, within the budget.

    A run that makes no progress is given up soon, one that does when a class of failures is too
    frequent.
    """
    paid = pay(state, failure, at_s=at_s)
    if isinstance(paid, Overdraft):
        given_up = replace(state, guilty=guilty, tail=tail)
        return end(given_up, Verdict.FAILED, f"{reason}; {paid.reason}")
    restart = Restart(
        generation=state.generation,
        reason=reason,
        detected_at_s=at_s,
        resume_step=state.resume_step,
    )
    stopping = replace(paid.state, phase=Phase.STOPPING, restarts=(*state.restarts, restart))
    whence = "from scratch" if state.resume_step is None else f"from step {state.resume_step}"
    said = Say(sentence=f"{reason}: starting again {whence} ({paid.count})")
    return _after((said,), stop(stopping))


@dataclass(frozen=True, slots=True, kw_only=True)
class Paid:
    """The state after the budgets have paid for a failure, and how much of them is used up."""

    state: State
    count: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Overdraft:
    """The budgets do not pay for another failure."""

    reason: str


def pay(state: State, failure: Failure, *, at_s: float) -> Paid | Overdraft:
    """Pay for a failure that costs a restart."""
    most = state.terms.max_restarts
    if state.restarts_spent >= most:
        reason = f"given up after {state.restarts_spent} restarts without a new checkpoint"
        return Overdraft(reason=reason)
    put_down = charge(state.accounts, state.terms.budgets, failure, at_s=at_s)
    if put_down.overdrawn is not None:
        return Overdraft(reason=f"given up after {put_down.overdrawn}")
    spent = state.restarts_spent + 1
    restarts = f"restart {spent} of {most} without a new checkpoint"
    return Paid(
        state=replace(state, restarts_spent=spent, accounts=put_down.accounts),
        count=", ".join(filter(None, (restarts, put_down.count))),
    )


def failure_of(event: RankExited) -> Failure:
    """The class of a rank's end."""
    return Failure.PROGRAM if event.signal is None else Failure.KILLED


def end(state: State, verdict: Verdict, reason: str) -> Decision:
    """The run is over: kill what still runs, then close."""
    ending = replace(state, phase=Phase.ENDING, verdict=verdict, reason=reason)
    return stop(ending)


def stop(state: State) -> Decision:
    """Kill the ranks that are left; go on at once when there is nothing to wait for."""
    if state.is_quiet:
        return settle(state)
    waiting, deadline = armed(state, Deadline.STOP, after_s=state.terms.stop_timeout_s)
    return waiting, (*kill(waiting), *deadline)


def kill(state: State) -> tuple[Instruction, ...]:
    """The instruction to kill what runs, if anything does."""
    if not state.alive:
        return ()
    return (StopGeneration(generation=state.generation, how=StopHow.KILL, grace_s=0.0),)


def settle(state: State) -> Decision:
    """Go on when nothing runs and nothing is being committed any more; wait otherwise."""
    if not state.is_quiet:
        return state, ()
    match state.phase:
        case Phase.STOPPING:
            return next_generation(state)
        case Phase.LEAVING:
            return _close_left(state)
        case Phase.ENDING:
            return close(state)
        case Phase.STARTING | Phase.RUNNING if state.has_finished:
            return close(
                replace(
                    state, verdict=Verdict.FINISHED, reason=f"step {state.terms.last_step} done"
                )
            )
        case _:
            return state, ()


def close(state: State) -> Decision:
    """Nothing is left to wait for."""
    closed = disarmed(replace(state, phase=Phase.ENDED))
    verdict = closed.verdict or Verdict.FAILED
    return closed, (
        Say(sentence=f"{verdict}: {closed.reason}"),
        CloseRun(verdict=verdict, reason=closed.reason),
    )


def stage(state: State, *, step: int, rank: int) -> Decision:
    """A rank's part is on disk; the last one makes the checkpoint complete."""
    if step in state.committing or step <= (state.resume_step or 0):
        return state, ()  # told again, or too late to matter
    staged = dict(state.staged)
    parts = staged.pop(step, EMPTY).plus(rank)
    if len(parts) < state.terms.world_size:
        return replace(state, staged=(*staged.items(), (step, parts))), ()
    complete = replace(state, staged=tuple(staged.items()), committing=(*state.committing, step))
    return complete, (CommitCheckpoint(generation=state.generation, step=step),)


def exit_sentence(event: RankExited) -> str:
    """How a rank ended, for people."""
    if event.signal is not None:
        name = signal.Signals(event.signal).name
        return f"rank {event.rank} was ended by {name}"
    if event.exit_code == 0:
        return f"rank {event.rank} exited before it had finished"
    return f"rank {event.rank} failed with exit code {event.exit_code}"


def hang_sentence(event: RanksHung) -> str:
    """Who hangs and how that is known, for people."""
    who = "ranks hang" if event.rank is None else f"rank {event.rank} hangs"
    limit = (
        f"no progress for {event.stalled_s:.1f} s, past the {event.limit_s:.1f} s of {event.phase}"
    )
    return f"{who}: {limit}; {event.why}"


def _close_left(state: State) -> Decision:
    if state.has_finished:
        reason = f"step {state.terms.last_step} done"
        return close(replace(state, verdict=Verdict.FINISHED, reason=reason))
    whence = "no checkpoint" if state.resume_step is None else f"step {state.resume_step}"
    reason = f"stopped by request; {whence} is committed"
    return close(replace(state, verdict=Verdict.INTERRUPTED, reason=reason))


def _after(first: tuple[Instruction, ...], decision: Decision) -> Decision:
    state, instructions = decision
    return state, (*first, *instructions)
