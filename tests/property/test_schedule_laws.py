"""Laws of every schedule: once and in order, exact time and memory, and where ranks deadlock."""

from dataclasses import dataclass, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.schedules import closed_forms, legal
from orchestrator.schedules.actions import Action, ActionKind
from orchestrator.schedules.check import problems
from orchestrator.schedules.schedule import Schedule, arranged, build
from orchestrator.schedules.simulate import Deadlock, StageTimes, Timeline, simulate
from orchestrator.specs.choices import ScheduleKind

durations = st.integers(0, 50)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A schedule with the words that made it."""

    kind: ScheduleKind
    pp: int
    vpp: int
    num_microbatches: int
    microbatch_group_size: int

    def schedule(self) -> Schedule:
        return build(**self.words(), microbatch_group_size=self.microbatch_group_size)

    def words(self) -> dict:
        return {
            "kind": self.kind,
            "pp": self.pp,
            "vpp": self.vpp,
            "num_microbatches": self.num_microbatches,
        }


@st.composite
def one_f_one_b(draw: st.DrawFn) -> Case:
    return Case(
        kind=ScheduleKind.ONE_F_ONE_B,
        pp=draw(st.integers(1, 9)),
        vpp=1,
        num_microbatches=draw(st.integers(1, 40)),
        microbatch_group_size=1,
    )


@st.composite
def interleaved(draw: st.DrawFn) -> Case:
    pp, vpp = draw(st.integers(2, 6)), draw(st.integers(2, 4))
    group = draw(st.integers(pp, pp + 5))
    rest = draw(st.sampled_from([0, *range(pp, group)]))
    rounds = draw(st.integers(1, 3))
    return Case(
        kind=ScheduleKind.INTERLEAVED,
        pp=pp,
        vpp=vpp,
        num_microbatches=group * rounds + rest,
        microbatch_group_size=group,
    )


@st.composite
def depth_first(draw: st.DrawFn) -> Case:
    pp = draw(st.integers(2, 6))
    return Case(
        kind=ScheduleKind.INTERLEAVED,
        pp=pp,
        vpp=draw(st.integers(2, 4)),
        num_microbatches=pp * draw(st.integers(1, 5)),
        microbatch_group_size=pp,
    )


cases = st.one_of(one_f_one_b(), interleaved())


def timeline(schedule: Schedule, times: StageTimes) -> Timeline:
    answer = simulate(schedule, times=times)
    assert isinstance(answer, Timeline), str(answer)
    return answer


def uniform(case: Case, forward_ns: int, backward_ns: int, latency_ns: int = 0) -> Timeline:
    times = StageTimes.uniform(
        num_stages=case.pp * case.vpp,
        forward_ns=forward_ns,
        backward_ns=backward_ns,
        latency_ns=latency_ns,
    )
    return timeline(case.schedule(), times)


@given(cases)
def test_every_microbatch_passes_every_stage_once_each_way_in_order(case):
    schedule = case.schedule()

    assert problems(schedule) == ()
    assert schedule.num_actions == 2 * case.pp * case.vpp * case.num_microbatches


@given(cases)
def test_a_stage_takes_microbatches_in_ascending_order(case):
    for order in case.schedule().orders:
        last: dict[tuple[ActionKind, int], int] = {}
        for action in order:
            assert action.microbatch == last.get((action.kind, action.stage), -1) + 1
            last[action.kind, action.stage] = action.microbatch


@given(cases, st.data())
def test_a_lost_or_doubled_action_is_always_noticed(case, data):
    schedule = case.schedule()
    rank = data.draw(st.integers(0, case.pp - 1))
    order = schedule.orders[rank]
    place = data.draw(st.integers(0, len(order) - 1))
    lost = order[:place] + order[place + 1 :]
    doubled = (*order, order[place])

    for broken in (lost, doubled):
        orders = (*schedule.orders[:rank], broken, *schedule.orders[rank + 1 :])
        assert problems(replace(schedule, orders=orders))


@given(cases, durations, durations)
def test_makespan_and_bubble_of_equal_stages_are_exact(case, forward_ns, backward_ns):
    chunk_ns = forward_ns + backward_ns

    found = uniform(case, forward_ns, backward_ns)

    assert found.makespan_ns == closed_forms.makespan_ns(**case.words(), chunk_ns=chunk_ns)
    bubble_ns = closed_forms.bubble_ns(case.kind, pp=case.pp, chunk_ns=chunk_ns)
    assert {found.makespan_ns - busy_ns for busy_ns in found.busy_ns} == {bubble_ns}


@given(cases, st.integers(1, 50))
def test_bubble_ratios_are_those_of_the_simulated_bubble(case, duration_ns):
    found = uniform(case, duration_ns, 2 * duration_ns)

    bubble_ns = found.makespan_ns - found.busy_ns[0]
    assert closed_forms.bubble_fraction(**case.words()) == bubble_ns / found.makespan_ns
    assert closed_forms.bubble_overhead(**case.words()) == bubble_ns / found.busy_ns[0]


@given(one_f_one_b(), durations, durations, st.integers(0, 300))
def test_1f1b_pays_exactly_its_hops_at_any_latency(case, forward_ns, backward_ns, latency_ns):
    found = uniform(case, forward_ns, backward_ns, latency_ns)

    without_ns = closed_forms.makespan_ns(**case.words(), chunk_ns=forward_ns + backward_ns)
    hops = closed_forms.latency_hops(**case.words())
    assert found.makespan_ns == without_ns + hops * latency_ns


@given(depth_first(), durations, durations, st.data())
def test_depth_first_interleaving_pays_exactly_its_hops_up_to_a_chunks_time(
    case, forward_ns, backward_ns, data
):
    latency_ns = data.draw(st.integers(0, min(forward_ns, backward_ns)))

    found = uniform(case, forward_ns, backward_ns, latency_ns)

    without_ns = closed_forms.makespan_ns(**case.words(), chunk_ns=forward_ns + backward_ns)
    hops = closed_forms.latency_hops(**case.words())
    assert found.makespan_ns == without_ns + hops * latency_ns


@given(cases)
def test_peak_in_flight_is_that_of_the_order(case):
    schedule = case.schedule()
    for rank, order in enumerate(schedule.orders):
        held = peak = 0
        for action in order:
            held += 1 if action.kind is ActionKind.FORWARD else -1
            peak = max(peak, held)

        formula = closed_forms.peak_in_flight(
            **case.words(), microbatch_group_size=case.microbatch_group_size, rank=rank
        )
        assert formula == peak


def needed_by(action: Action, last_stage: int) -> list[Action]:
    if action.kind is ActionKind.BACKWARD:
        forward = replace(action, kind=ActionKind.FORWARD)
        return [forward, *([replace(action, stage=action.stage + 1)] * (action.stage < last_stage))]
    return [replace(action, stage=action.stage - 1)] if action.stage else []


def brute_force(schedule: Schedule, times: StageTimes) -> dict[Action, int] | None:
    """Return the end of each action by sweeping over the ranks; None for a deadlock.

    Written for its plainness alone: the second opinion on the simulation.
    """
    ends: dict[Action, int] = {}
    todo = {rank: list(order) for rank, order in enumerate(schedule.orders)}
    clocks = dict.fromkeys(todo, 0)
    stuck = False
    while not stuck:
        stuck = True
        for rank, order in todo.items():
            needs = needed_by(order[0], schedule.num_stages - 1) if order else []
            if not order or not ends.keys() >= set(needs):
                continue
            for need in needs:
                lag_ns = times.latency_ns if schedule.rank_of(need.stage) != rank else 0
                clocks[rank] = max(clocks[rank], ends[need] + lag_ns)
            clocks[rank] += times.of(order[0])
            ends[order.pop(0)] = clocks[rank]
            stuck = False
    return None if any(todo.values()) else ends


@st.composite
def any_times(draw: st.DrawFn, num_stages: int) -> StageTimes:
    row = st.lists(durations, min_size=num_stages, max_size=num_stages).map(tuple)
    return StageTimes(
        forward_ns=draw(row), backward_ns=draw(row), latency_ns=draw(st.integers(0, 30))
    )


@given(st.data())
def test_simulation_of_unequal_stages_equals_brute_force_deadlocks_included(data):
    pp, vpp = data.draw(st.integers(2, 5)), data.draw(st.integers(1, 4))
    schedule = arranged(
        ScheduleKind.INTERLEAVED,
        pp=pp,
        vpp=vpp,
        num_microbatches=data.draw(st.integers(1, 12)),
        microbatch_group_size=data.draw(st.integers(1, 8)),
    )
    times = data.draw(any_times(pp * vpp))

    answer = simulate(schedule, times=times)

    expected = brute_force(schedule, times)
    if expected is None:
        assert isinstance(answer, Deadlock)
        return
    assert isinstance(answer, Timeline)
    rows = zip(schedule.orders, answer.starts_ns, answer.ends_ns, strict=True)
    for order, starts_ns, ends_ns in rows:
        assert list(ends_ns) == [expected[action] for action in order]
        assert list(starts_ns) == [
            end_ns - times.of(action) for action, end_ns in zip(order, ends_ns, strict=True)
        ]


@given(st.integers(2, 6), st.integers(2, 4), st.integers(1, 24), st.integers(1, 12))
def test_what_is_legal_runs_and_a_deadlock_names_a_circle(pp, vpp, num_microbatches, group):
    words = {
        "pp": pp,
        "vpp": vpp,
        "num_microbatches": num_microbatches,
        "microbatch_group_size": group,
    }

    answer = simulate(
        arranged(ScheduleKind.INTERLEAVED, **words),
        times=StageTimes.uniform(num_stages=pp * vpp, forward_ns=1, backward_ns=2),
    )

    if isinstance(answer, Deadlock):
        assert legal.refusal(ScheduleKind.INTERLEAVED, **words) is not None
        owners = [wait.needs.stage % pp for wait in answer.waits]
        assert owners == [*(wait.rank for wait in answer.waits[1:]), answer.waits[0].rank]


@settings(deadline=None)
@given(st.integers(2, 8), st.integers(2, 5), st.integers(1, 40), st.integers(1, 40))
def test_the_nearest_numbers_of_a_refusal_are_legal_and_none_is_nearer(pp, vpp, m, g):
    def is_legal(m: int, g: int) -> bool:
        refused = legal.refusal(
            ScheduleKind.INTERLEAVED, pp=pp, vpp=vpp, num_microbatches=m, microbatch_group_size=g
        )
        return refused is None

    refused = legal.refusal(
        ScheduleKind.INTERLEAVED, pp=pp, vpp=vpp, num_microbatches=m, microbatch_group_size=g
    )

    if refused is None:
        return
    group = max(g, pp)
    nearest = {m + sign * d for d in range(1 + max(m, group)) for sign in (-1, 1)}
    counts = refused.nearest_num_microbatches
    assert all(is_legal(count, group) for count in counts)
    assert min(abs(count - m) for count in counts) == min(
        abs(count - m) for count in nearest if count > 0 and is_legal(count, group)
    )
    sizes = [size for size in range(1, m + 1) if is_legal(m, size)]
    if refused.nearest_group_size is None:
        assert sizes == []
    else:
        distance = abs(refused.nearest_group_size - g)
        assert distance == min(abs(size - g) for size in sizes)


def test_of_the_refused_orders_in_groups_of_pp_160_of_336_deadlock():
    refused = [
        (pp, vpp, m) for pp in range(2, 9) for vpp in (2, 3, 4) for m in range(pp, 5 * pp) if m % pp
    ]

    deadlocked = [
        (pp, vpp, m)
        for pp, vpp, m in refused
        if isinstance(
            simulate(
                arranged(
                    ScheduleKind.INTERLEAVED,
                    pp=pp,
                    vpp=vpp,
                    num_microbatches=m,
                    microbatch_group_size=pp,
                ),
                times=StageTimes.uniform(num_stages=pp * vpp, forward_ns=1, backward_ns=1),
            ),
            Deadlock,
        )
    ]

    assert len(refused) == 336
    assert len(deadlocked) == 160
    assert deadlocked[0] == (4, 3, 5)
