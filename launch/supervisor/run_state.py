"""What the supervisor knows about a run: one frozen value, rebuilt from the journal at any time."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from launch.supervisor.budgets import Account, Failure
from launch.supervisor.events import AgentPlace, Deadline, RunTerms
from launch.supervisor.instructions import Instruction, SetDeadline
from launch.supervisor.number_set import EMPTY, NumberSet
from launch.supervisor.verdict import Verdict


class Phase(StrEnum):
    """What a run waits for; see docs/supervisor.md."""

    ATTACHING = "attaching"
    GATHERING = "gathering"
    RESERVING = "reserving"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    LEAVING = "leaving"
    ENDING = "ending"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """One fault and the recovery from it; `stepping_at_s` is None until all ranks step again."""

    generation: int
    reason: str
    detected_at_s: float
    resume_step: int | None
    stepping_at_s: float | None = None

    @property
    def recovery_s(self) -> float | None:
        """Seconds from noticing the fault until every rank had done a step again."""
        return None if self.stepping_at_s is None else self.stepping_at_s - self.detected_at_s


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The supervisor's whole knowledge.

    `alive` are ranks told to start and not known to be gone, `staged` has the ranks whose part of a
    step's checkpoint is on disk, `committing` and `committed` are steps; `port` and `is_verified`
    are what the next generation has of what it needs to start. `blamed` are agents whose loss the
    budget has paid for since the last start. `restarts_spent` counts restarts since the last new
    checkpoint, `accounts` failures by class. While a new controller takes over, `left_in`
    is the phase of its predecessor, `missing` are agents that did not come back, `unstarted` those
    that had no ranks of this generation, and `failure` is the class of a fault to be answered.
    `guilty` is the rank whose exit ended the run, and `tail` its last lines.
    """

    terms: RunTerms
    phase: Phase
    generation: int
    committed: tuple[int, ...]
    joined: NumberSet = EMPTY
    alive: NumberSet = EMPTY
    staged: tuple[tuple[int, NumberSet], ...] = ()
    finished: NumberSet = EMPTY
    left: NumberSet = EMPTY
    committing: tuple[int, ...] = ()
    port: int | None = None
    is_verified: bool = False
    blamed: NumberSet = EMPTY
    restarts_spent: int = 0
    accounts: tuple[Account, ...] = ()
    restarts: tuple[Restart, ...] = ()
    deadline_serial: int = 0
    opened_at_s: float = 0.0
    left_in: Phase = Phase.GATHERING
    missing: NumberSet = EMPTY
    unstarted: NumberSet = EMPTY
    verdict: Verdict | None = None
    reason: str = ""
    failure: Failure | None = None
    guilty: int | None = None
    tail: tuple[str, ...] = ()

    @property
    def resume_step(self) -> int | None:
        """The step from which the next generation goes on; None is from scratch."""
        return self.committed[-1] if self.committed else None

    @property
    def is_quiet(self) -> bool:
        """Whether no rank runs and no checkpoint is being committed."""
        return not self.alive and not self.committing

    @property
    def is_gathered(self) -> bool:
        """Whether every agent is here."""
        return len(self.joined) == len(self.terms.agents)

    @property
    def has_finished(self) -> bool:
        """Whether every rank has reported the last step."""
        return len(self.finished) == self.terms.world_size

    def place_of(self, agent_id: int) -> AgentPlace:
        """An agent's share of the run."""
        return next(agent for agent in self.terms.agents if agent.agent_id == agent_id)


Decision = tuple[State, tuple[Instruction, ...]]


def armed(state: State, deadline: Deadline, *, after_s: float) -> Decision:
    """The state with a new deadline, which replaces the one before."""
    serial = state.deadline_serial + 1
    order = SetDeadline(deadline=deadline, serial=serial, after_s=after_s)
    return replace(state, deadline_serial=serial), (order,)


def disarmed(state: State) -> State:
    """The state without a deadline: the one that may be under way has become stale."""
    return replace(state, deadline_serial=state.deadline_serial + 1)


def without_agent(state: State, agent_id: int) -> State:
    """The state after an agent is gone, and with it its ranks."""
    return without_ranks_of(replace(state, joined=state.joined.minus(agent_id)), agent_id)


def without_ranks_of(state: State, agent_id: int) -> State:
    """The state after the ranks of an agent are gone."""
    ranks = NumberSet.of(state.place_of(agent_id).ranks)
    return replace(state, alive=state.alive.without(ranks))


def spoken(things: Sequence[int | str]) -> str:
    """Numbers or names as a sentence has them: `1, 2 and 5`; long lists are cut."""
    shown = [str(thing) for thing in things[:_SHOWN_THINGS]]
    if len(things) > _SHOWN_THINGS:
        return f"{', '.join(shown)} and {len(things) - _SHOWN_THINGS} more"
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))


_SHOWN_THINGS = 8
