"""The simulation against a second opinion that was written for plainness alone.

Ten thousand random cases, seeded: every schedule and random orders that obey the law (most of
which deadlock), unequal stages, latency, split and whole backwards, overlapped slots.
"""

import random
from collections.abc import Iterator

import numpy as np
import pytest

from orchestrator.schedules import zero_bubble
from orchestrator.schedules.actions import Action, ActionKind, Overlap, Step
from orchestrator.schedules.check import problems
from orchestrator.schedules.program import program_of
from orchestrator.schedules.schedule import Schedule, arranged, rewritten
from orchestrator.schedules.simulate import Deadlock, run_compiled, run_plain, simulate
from orchestrator.schedules.times import StageTimes
from orchestrator.specs.choices import ScheduleKind

NUM_CASES = 10_000
ONE_CHUNK = {ScheduleKind.NO_PIPELINE, ScheduleKind.ONE_F_ONE_B, ScheduleKind.GPIPE}
TWO_CHUNKS = {ScheduleKind.ZB_V, ScheduleKind.DUAL_PIPE_V}


def random_schedule(chance: random.Random) -> Schedule:
    kind = chance.choice(list(ScheduleKind))
    pp = 1 if kind is ScheduleKind.NO_PIPELINE else chance.randint(1, 4)
    vpp = 1 if kind in ONE_CHUNK else 2 if kind in TWO_CHUNKS else chance.randint(1, 3)
    m = chance.randint(1, 7)
    if kind is ScheduleKind.DUAL_PIPE_V:
        m += 2 * pp - 1
    group = chance.randint(1, 5)
    if kind is ScheduleKind.ZERO_BUBBLE:
        m = pp * chance.randint(1, 2)
        group = zero_bubble.group_size(pp=pp, num_microbatches=m)
    return arranged(kind, pp=pp, vpp=vpp, num_microbatches=m, microbatch_group_size=group)


def scrambled(schedule: Schedule, chance: random.Random) -> Schedule:
    """Return random orders of the same work that obey the law on each rank."""
    return rewritten(
        schedule, [scrambled_order(schedule, rank, chance) for rank in range(schedule.pp)]
    )


def scrambled_order(schedule: Schedule, rank: int, chance: random.Random) -> list[Step]:
    chains = []
    for stage in schedule.stages_of(rank):
        for microbatch in range(schedule.num_microbatches):
            kinds = chance.choice(["FB", "FIW"])
            chains.append(
                [
                    Action(kind=ActionKind(kind), stage=stage, microbatch=microbatch)
                    for kind in kinds
                ]
            )
    order: list[Step] = []
    while chains:
        chain = chance.choice(chains)
        order.append(chain.pop(0))
        chains = [chain for chain in chains if chain]
    return list(paired(order, chance))


def paired(order: list[Step], chance: random.Random) -> Iterator[Step]:
    """Yield the order with some neighbouring forwards and backwards in one slot."""
    rest = list(order)
    while rest:
        step = rest.pop(0)
        follower = rest[0] if rest else None
        is_pair = (
            follower is not None
            and step.kind is ActionKind.FORWARD
            and follower.kind is ActionKind.BACKWARD
            and (step.stage, step.microbatch) != (follower.stage, follower.microbatch)
        )
        if is_pair and chance.random() < 0.5:
            yield Overlap(forward=step, backward=rest.pop(0))
        else:
            yield step


def random_times(num_stages: int, chance: random.Random) -> StageTimes:
    most = chance.choice([1, 4, 50])
    backward = tuple(chance.randint(0, most) for _ in range(num_stages))
    return StageTimes(
        forward_ns=tuple(chance.randint(0, most) for _ in range(num_stages)),
        backward_ns=backward,
        weight_grad_ns=tuple(chance.randint(0, whole) for whole in backward),
        latency_ns=chance.randint(0, most),
        overlap_saves_ns=chance.randint(0, most),
    )


def time_of(action: Action, times: StageTimes) -> int:
    stage = action.stage
    weights = times.weight_grad_ns[stage]
    return {
        ActionKind.FORWARD: times.forward_ns[stage],
        ActionKind.BACKWARD: times.backward_ns[stage],
        ActionKind.INPUT_GRAD: times.backward_ns[stage] - weights,
        ActionKind.WEIGHT_GRAD: weights,
    }[action.kind]


def inputs_of(action: Action, num_stages: int) -> list[tuple[str, int, int]]:
    """Return the names of the results that an action reads."""
    stage, microbatch = action.stage, action.microbatch
    match action.kind:
        case ActionKind.FORWARD:
            return [("activation", stage - 1, microbatch)] if stage else []
        case ActionKind.WEIGHT_GRAD:
            return [("gradient", stage, microbatch)]
        case _:
            above = [("gradient", stage + 1, microbatch)] if stage < num_stages - 1 else []
            return [("activation", stage, microbatch), *above]


def result_of(action: Action) -> tuple[str, int, int]:
    name = {"F": "activation", "B": "gradient", "I": "gradient", "W": "weights"}[action.kind.value]
    return (name, action.stage, action.microbatch)


def brute_force(schedule: Schedule, times: StageTimes) -> list[list[int]] | None:
    """Return the end of each slot by sweeping over the ranks until nothing moves."""
    made: dict[tuple[str, int, int], int] = {}
    orders, ends = schedule.orders, [[] for _ in range(schedule.pp)]
    moved = True
    while moved:
        moved = False
        for rank, order in enumerate(orders):
            if len(ends[rank]) == len(order):
                continue
            step = order[len(ends[rank])]
            reads = [name for one in step.actions for name in inputs_of(one, schedule.num_stages)]
            if not made.keys() >= set(reads):
                continue
            start = ends[rank][-1] if ends[rank] else 0
            for name in reads:
                lag = 0 if schedule.rank_of(name[1]) == rank else times.latency_ns
                start = max(start, made[name] + lag)
            parts = [time_of(action, times) for action in step.actions]
            saved = times.overlap_saves_ns if len(parts) > 1 else 0
            end = start + max(sum(parts) - saved, *parts)
            ends[rank].append(end)
            made.update({result_of(action): end for action in step.actions})
            moved = True
    done = all(len(row) == len(order) for row, order in zip(ends, orders, strict=True))
    return ends if done else None


@pytest.mark.parametrize("seed", range(10))
def test_simulation_equals_brute_force_deadlocks_included(seed):
    chance = random.Random(seed)
    deadlocks = 0
    for number in range(NUM_CASES // 10):
        schedule = random_schedule(chance)
        if number % 4 == 0 and schedule.num_microbatches <= 3:
            schedule = scrambled(schedule, chance)
        times = random_times(schedule.num_stages, chance)

        answer = simulate(schedule, times=times)

        expected = brute_force(schedule, times)
        if expected is None:
            assert isinstance(answer, Deadlock), (seed, number)
            deadlocks += 1
        else:
            assert [row.tolist() for row in answer.ends_ns] == expected, (seed, number)

    assert 50 < deadlocks < NUM_CASES // 20


def test_scrambled_orders_obey_the_law():
    chance = random.Random(1)
    for _ in range(50):
        schedule = random_schedule(chance)
        assert problems(scrambled(schedule, chance)) == ()


def test_a_named_circle_is_one():
    chance = random.Random(2)
    found = 0
    while found < 200:
        schedule = scrambled(random_schedule(chance), chance)
        answer = simulate(schedule, times=random_times(schedule.num_stages, chance))
        if not isinstance(answer, Deadlock):
            continue
        found += 1
        followers = [*answer.waits[1:], answer.waits[0]]
        for wait, follower in zip(answer.waits, followers, strict=True):
            assert schedule.rank_of(wait.needs.stage) == follower.rank
            assert result_of(wait.needs) in [
                name
                for action in wait.step.actions
                for name in inputs_of(action, schedule.num_stages)
            ]
            order = schedule.order(follower.rank)
            stuck = order.index(follower.step)
            makers = [
                place
                for place, step in enumerate(order)
                if result_of(wait.needs) in map(result_of, step.actions)
            ]
            assert makers[0] >= stuck


def test_compiled_and_plain_kernels_agree():
    pytest.importorskip("numba")
    chance = random.Random(3)
    for _ in range(200):
        schedule = random_schedule(chance)
        program = program_of(schedule, times=random_times(schedule.num_stages, chance))

        plain, compiled = run_plain(program), run_compiled(program)

        for ours, theirs in zip(plain, compiled, strict=True):
            np.testing.assert_array_equal(ours, theirs)
