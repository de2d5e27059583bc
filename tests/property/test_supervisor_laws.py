"""Laws of the supervisor for any order of joins, losses, exits, commits and interrupts."""

from dataclasses import replace

import pytest
from hypothesis import event as classify
from hypothesis import given, settings
from hypothesis import strategies as st

from launch.supervisor.budgets import Budget, Failure
from launch.supervisor.events import (
    EVENTS,
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
    RunTerms,
    StorageFailed,
)
from launch.supervisor.instructions import CloseRun, StartAgent, StartGeneration
from launch.supervisor.journal import replay
from launch.supervisor.number_set import NumberSet
from launch.supervisor.run_state import Phase, State
from launch.supervisor.state import TABLE, InvalidTransition, handle, open_run
from launch.supervisor.verdict import Verdict
from tests.fakes.world import Choice, FakeWorld, terms_of


@st.composite
def all_terms(draw) -> RunTerms:
    return terms_of(
        hosts=draw(st.integers(1, 3)),
        slots=draw(st.integers(1, 2)),
        last_step=draw(st.integers(1, 4)),
        max_restarts=draw(st.integers(0, 3)),
        keep_checkpoints=draw(st.integers(1, 3)),
        rendezvous_port=draw(st.sampled_from([None] * 7 + [29_500])),
        budgets=draw(all_budgets()),
    )


@st.composite
def all_budgets(draw) -> tuple[Budget, ...]:
    """Budgets of some classes; the world's clock ticks once an event."""
    return tuple(
        Budget(
            failure=failure,
            most=draw(st.integers(0, 4)),
            forgiven_after_s=draw(st.sampled_from([5.0, 50.0, 1e9])),
        )
        for failure in sorted(draw(st.sets(st.sampled_from(Failure), max_size=2)))
    )


FAULTS = (
    "interrupt",
    "storage",
    "deadline",
    "reject",
    "tear",
    "fail",
    "lose",
    "crash",
    "vanish",
    "hang",
    "refuse",
    "vanish-agent",
)


@st.composite
def worlds(draw) -> FakeWorld:
    """A run whose first part is as bad as Hypothesis likes, and which is then left in peace.

    A run has some kinds of faults and not others: with all of them at once hardly any would live
    long enough to be restarted.
    """
    terms = draw(all_terms())
    cannot_start = draw(st.sampled_from([frozenset(), frozenset(), frozenset(), frozenset({0})]))
    world = FakeWorld(terms, cannot_start=cannot_start)
    kinds = draw(st.sets(st.sampled_from(FAULTS), max_size=3))
    picks = st.tuples(st.integers(0, 3), st.integers(0, 1_000))
    dies = draw(st.sampled_from((0, 0, 2)))  # how often the controller may be killed, in tenths
    for mood, pick in draw(st.lists(picks, min_size=20, max_size=200)):
        if world.is_over:
            break
        if pick % 10 < dies:
            world.doom = (pick // 10 % 7, pick // 70 % 7)
        choices = _choices(world, kinds=kinds, wants_fault=mood == 0)
        world.happen(choices[pick % len(choices)])
    return world


def _choices(world: FakeWorld, *, kinds: set[str], wants_fault: bool) -> list[Choice]:
    peace = [choice for choice in world.choices() if not choice.is_fault]
    faults = [c for c in world.choices() if c.is_fault and c.name.split()[0] in kinds]
    return (faults if wants_fault else peace) or peace or faults


@settings(max_examples=400, deadline=None)
@given(worlds())
def test_every_run_ends_with_a_verdict_once_faults_stop(world: FakeWorld) -> None:
    world.let_peace(until=Phase.ENDED)

    classify(f"{world.state.verdict}")
    assert world.is_over
    assert world.closed is not None
    assert world.closed.verdict is world.state.verdict


@settings(max_examples=300, deadline=None)
@given(worlds())
def test_a_finished_run_has_committed_its_last_step(world: FakeWorld) -> None:
    world.let_peace(until=Phase.ENDED)

    if world.state.verdict is Verdict.FINISHED:
        assert max(world.stored) == world.terms.last_step
        assert not any(agent.ranks for agent in world.agents.values())


@settings(max_examples=300, deadline=None)
@given(worlds())
def test_restarts_stay_in_the_budget_between_checkpoints(world: FakeWorld) -> None:
    world.let_peace(until=Phase.ENDED)

    most = world.terms.max_restarts
    assert world.state.restarts_spent <= most
    # An agent's first loss in a fault is part of that fault: it starts each agent once for free.
    agents = len(world.terms.agents)
    assert world.agent_starts_since_commit <= (agents * (most + 2) + most) * (1 + world.takeovers)


@settings(max_examples=200, deadline=None)
@given(worlds())
def test_no_class_of_failures_is_overdrawn(world: FakeWorld) -> None:
    most = {budget.failure: budget.most for budget in world.terms.budgets}

    assert all(a.level <= most[a.failure] for a in world.state.accounts)
    assert {account.failure for account in world.state.accounts} <= set(most)


@settings(max_examples=200, deadline=None)
@given(worlds())
def test_replaying_the_journal_gives_the_history(world: FakeWorld) -> None:
    assert replay(world.entries) == world.state


@settings(max_examples=200, deadline=None)
@given(worlds())
def test_the_kept_checkpoints_are_the_newest(world: FakeWorld) -> None:
    assert world.stored == set(world.state.committed)
    assert len(world.stored) <= world.terms.keep_checkpoints


def test_a_run_without_faults_starts_one_generation_and_finishes() -> None:
    world = FakeWorld(terms_of(hosts=2, slots=2, last_step=3))

    world.let_peace(until=Phase.ENDED)

    instructions = [entry.instruction for entry in world.entries if hasattr(entry, "instruction")]
    assert world.state.verdict is Verdict.FINISHED
    assert sum(isinstance(i, StartGeneration) for i in instructions) == 1
    assert sum(isinstance(i, StartAgent) for i in instructions) == 2


EXAMPLES = {
    "agent_joined": AgentJoined(at_s=1, agent_id=0, host="h", pid=1),
    "agent_attached": AgentAttached(
        at_s=1, agent_id=0, host="h", pid=1, generation=1, ranks=(0, 1)
    ),
    "agent_lost": AgentLost(at_s=1, agent_id=0, reason="gone"),
    "port_granted": PortGranted(at_s=1, generation=1, port=4),
    "instruction_refused": InstructionRefused(at_s=1, generation=1, agent_id=0, reason="no"),
    "rank_started": RankStarted(at_s=1, generation=1, rank=0, pid=3),
    "ranks_stepping": RanksStepping(at_s=1, generation=1, step=1),
    "rank_staged": RankStaged(at_s=1, generation=1, rank=0, step=1),
    "rank_finished": RankFinished(at_s=1, generation=1, rank=0, step=3),
    "rank_left": RankLeft(at_s=1, generation=1, rank=0, step=1),
    "rank_refused": RankRefused(at_s=1, generation=1, rank=0, reason="no"),
    "rank_exited": RankExited(at_s=1, generation=1, rank=0, exit_code=1, signal=None, tail=()),
    "ranks_hung": RanksHung(
        at_s=1, generation=1, rank=1, stalled_s=3.0, limit_s=2.0, phase="train", why="it stopped"
    ),
    "checkpoint_committed": CheckpointCommitted(at_s=1, generation=1, step=1),
    "checkpoint_rejected": CheckpointRejected(at_s=1, generation=1, step=1, reason="hole"),
    "checkpoint_verified": CheckpointVerified(at_s=1, generation=1, step=1),
    "checkpoint_torn": CheckpointTorn(at_s=1, generation=1, step=1, reason="cut off"),
    "interrupt_asked": InterruptAsked(at_s=1, signal="SIGINT"),
    "deadline_passed": DeadlinePassed(at_s=1, deadline=Deadline.JOIN, serial=1),
    "storage_failed": StorageFailed(at_s=1, path="journal", reason="full"),
}


def state_in(phase: Phase) -> State:
    opened = RunOpened(at_s=0, epoch=1, terms=terms_of(), generation=1, checkpoints=())
    return replace(open_run(opened)[0], phase=phase, alive=NumberSet.of((0, 1, 2, 3)))


def test_there_is_an_example_of_every_event() -> None:
    assert set(EXAMPLES) == set(EVENTS) - {RunOpened.KIND}


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("kind", sorted(EXAMPLES))
def test_a_pair_is_in_the_table_or_is_refused_by_name(phase: Phase, kind: str) -> None:
    event = EXAMPLES[kind]

    if (phase, type(event)) in TABLE:
        state, _ = handle(state_in(phase), event)
        assert state.restarts_spent <= state.terms.max_restarts
    else:
        with pytest.raises(InvalidTransition, match=f"no transition from {phase} on {kind}"):
            handle(state_in(phase), event)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(sorted(EXAMPLES)), max_size=60))
def test_no_order_of_events_breaks_the_budget_or_the_end(kinds: list[str]) -> None:
    state, _ = open_run(RunOpened(at_s=0, epoch=1, terms=terms_of(), generation=0, checkpoints=()))
    for kind in kinds:
        event = _made_current(EXAMPLES[kind], state)
        try:
            state, instructions = handle(state, event)
        except InvalidTransition:
            continue

        assert state.restarts_spent <= state.terms.max_restarts
        assert (state.phase is Phase.ENDED) == any(isinstance(i, CloseRun) for i in instructions)


def _made_current(event: Event, state: State) -> Event:
    if isinstance(event, DeadlinePassed):
        return replace(event, serial=state.deadline_serial)
    if isinstance(event, OfGeneration):
        return replace(event, generation=state.generation)
    return event
