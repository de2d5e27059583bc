"""Laws of every schedule: once and in order, exact time and memory, and where ranks deadlock."""

from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.schedules import closed_forms, memory, zero_bubble
from orchestrator.schedules.actions import ActionKind
from orchestrator.schedules.check import problems
from orchestrator.schedules.cycles import one_f_one_b_makespan_ns
from orchestrator.schedules.memory import StageMemory
from orchestrator.schedules.schedule import Schedule, build, rewritten
from orchestrator.schedules.simulate import Timeline, simulate
from orchestrator.schedules.times import StageTimes
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


@st.composite
def combined(draw: st.DrawFn) -> Case:
    return replace(draw(interleaved()), kind=ScheduleKind.COMBINED)


@st.composite
def one_chunk(draw: st.DrawFn, kind: ScheduleKind) -> Case:
    return replace(draw(one_f_one_b()), kind=kind)


@st.composite
def looped_bfs(draw: st.DrawFn) -> Case:
    pp = draw(st.integers(1, 6))
    return Case(
        kind=ScheduleKind.LOOPED_BFS,
        pp=pp,
        vpp=draw(st.integers(2, 4)),
        num_microbatches=pp + draw(st.integers(0, 12)),
        microbatch_group_size=1,
    )


@st.composite
def zero_bubbles(draw: st.DrawFn) -> Case:
    pp, rounds = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    each = pp + draw(st.integers(0, max(0, (pp - 1) // rounds)))
    m = each * rounds
    return Case(
        kind=ScheduleKind.ZERO_BUBBLE,
        pp=pp,
        vpp=draw(st.integers(2, 4)),
        num_microbatches=m,
        microbatch_group_size=zero_bubble.group_size(pp=pp, num_microbatches=m),
    )


@st.composite
def v_shaped(draw: st.DrawFn, kind: ScheduleKind) -> Case:
    pp = draw(st.integers(1, 6))
    return Case(
        kind=kind,
        pp=pp,
        vpp=2,
        num_microbatches=2 * pp + draw(st.integers(0, 14)),
        microbatch_group_size=1,
    )


whole_cases = st.one_of(
    one_f_one_b(), interleaved(), combined(), one_chunk(ScheduleKind.GPIPE), looped_bfs()
)
split_cases = st.one_of(
    zero_bubbles(), v_shaped(ScheduleKind.ZB_V), v_shaped(ScheduleKind.DUAL_PIPE_V)
)
cases = st.one_of(whole_cases, split_cases)


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


@given(st.one_of(one_f_one_b(), interleaved(), split_cases))
def test_a_stage_takes_microbatches_in_ascending_order(case):
    for order in case.schedule().orders:
        last: dict[tuple[ActionKind, int], int] = {}
        for action in (action for step in order for action in step.actions):
            assert action.microbatch > last.get((action.kind, action.stage), -1)
            last[action.kind, action.stage] = action.microbatch


@given(cases, st.data())
def test_a_lost_or_doubled_action_is_always_noticed(case, data):
    schedule = case.schedule()
    rank = data.draw(st.integers(0, case.pp - 1))
    order = schedule.order(rank)
    place = data.draw(st.integers(0, len(order) - 1))
    lost = order[:place] + order[place + 1 :]
    doubled = (*order, order[place])

    for broken in (lost, doubled):
        orders = [*schedule.orders[:rank], broken, *schedule.orders[rank + 1 :]]
        assert problems(rewritten(schedule, orders))


@given(whole_cases, durations, durations)
def test_makespan_and_bubble_of_equal_stages_are_exact(case, forward_ns, backward_ns):
    chunk_ns = forward_ns + backward_ns

    found = uniform(case, forward_ns, backward_ns)

    assert found.makespan_ns == closed_forms.makespan_ns(**case.words(), chunk_ns=chunk_ns)
    bubble_ns = closed_forms.bubble_ns(case.kind, pp=case.pp, chunk_ns=chunk_ns)
    assert {found.makespan_ns - busy_ns for busy_ns in found.busy_ns} == {bubble_ns}


@given(split_cases, st.integers(0, 20))
def test_makespan_of_split_backwards_in_equal_parts_is_exact(case, part_ns):
    found = uniform(case, part_ns, 2 * part_ns)

    assert found.makespan_ns == closed_forms.makespan_ns(**case.words(), chunk_ns=3 * part_ns)


@given(v_shaped(ScheduleKind.ZB_V), st.integers(1, 20))
def test_zb_v_has_no_bubble_by_span_and_one_by_makespan(case, part_ns):
    found = uniform(case, part_ns, 2 * part_ns)

    ideal_ns = found.busy_ns[0]
    assert found.span_ns == ideal_ns
    assert found.makespan_ns - ideal_ns == (case.pp - 1) * part_ns


@given(zero_bubbles(), st.data())
def test_zero_bubble_of_unequal_parts_is_exact_while_weights_are_the_lighter(case, data):
    weight_ns = data.draw(st.integers(0, 20))
    forward_ns = weight_ns + data.draw(st.integers(0, 20))
    input_ns = weight_ns + data.draw(st.integers(0, 20))
    case = replace(
        case, num_microbatches=case.pp * data.draw(st.integers(1, 4)), microbatch_group_size=case.pp
    )
    times = StageTimes.uniform(
        num_stages=case.pp * case.vpp,
        forward_ns=forward_ns,
        backward_ns=input_ns + weight_ns,
        weight_grad_ns=weight_ns,
    )

    found = timeline(case.schedule(), times)

    assert found.makespan_ns - found.busy_ns[0] == closed_forms.split_bubble_ns(
        pp=case.pp, forward_ns=forward_ns, input_grad_ns=input_ns, weight_grad_ns=weight_ns
    )


@given(cases, st.integers(1, 50))
def test_bubble_ratios_are_those_of_the_simulated_bubble(case, part_ns):
    found = uniform(case, part_ns, 2 * part_ns)

    bubble_ns = found.makespan_ns - found.busy_ns[0]
    assert closed_forms.bubble_fraction(**case.words()) == bubble_ns / found.makespan_ns
    assert closed_forms.bubble_overhead(**case.words()) == bubble_ns / found.busy_ns[0]


@given(one_chunk(ScheduleKind.GPIPE), durations, durations, st.integers(0, 300))
def test_gpipe_pays_each_hop_there_and_back_once(case, forward_ns, backward_ns, latency_ns):
    found = uniform(case, forward_ns, backward_ns, latency_ns)

    without_ns = closed_forms.makespan_ns(**case.words(), chunk_ns=forward_ns + backward_ns)
    assert found.makespan_ns == without_ns + 2 * (case.pp - 1) * latency_ns
    assert closed_forms.latency_hops(**case.words()) == 2 * (case.pp - 1)


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
        for step in order:
            held += sum(action.kind is ActionKind.FORWARD for action in step.actions)
            peak = max(peak, held)
            held -= sum(
                action.kind in {ActionKind.BACKWARD, ActionKind.WEIGHT_GRAD}
                for action in step.actions
            )

        formula = closed_forms.peak_in_flight(
            **case.words(), microbatch_group_size=case.microbatch_group_size, rank=rank
        )
        assert formula == peak == memory.peaks_in_flight(schedule)[rank]


@given(split_cases)
def test_split_backwards_hold_equally_much_on_every_rank(case):
    if case.kind is ScheduleKind.ZERO_BUBBLE:
        case = replace(
            case,
            num_microbatches=case.pp * max(1, case.num_microbatches // case.pp),
            microbatch_group_size=case.pp,
        )
    expected = {
        ScheduleKind.ZERO_BUBBLE: case.pp * case.vpp,
        ScheduleKind.ZB_V: 2 * case.pp,
        ScheduleKind.DUAL_PIPE_V: 2 * case.pp + 1,
    }[case.kind]

    assert set(memory.peaks_in_flight(case.schedule())) == {expected}


@given(cases, st.data())
def test_memory_is_all_released_and_peaks_where_the_stages_say(case, data):
    schedule = case.schedule()
    sizes = st.lists(
        st.integers(0, 9), min_size=schedule.num_stages, max_size=schedule.num_stages
    ).map(tuple)
    whole = data.draw(sizes)
    late = tuple(min(size, data.draw(st.integers(0, 9))) for size in whole)
    held_by = StageMemory(activation_bytes=whole, until_weights_bytes=late)

    for rank in range(case.pp):
        freed = memory.releases(schedule, rank, held_by)
        per_microbatch = sum(whole[stage] for stage in schedule.stages_of(rank))
        assert sum(one.released_bytes for one in freed) == case.num_microbatches * per_microbatch
        assert memory.is_drained(schedule, rank, held_by)
        assert memory.held_bytes(schedule, rank, held_by).min() >= 0


@given(st.data(), st.integers(1, 9), st.integers(1, 90), st.integers(0, 30))
def test_skipping_rounds_changes_no_makespan(data, pp, num_microbatches, latency_ns):
    # Few different times make ties, many make long ways to the first repetition.
    most = data.draw(st.sampled_from([1, 3, 50]))
    row = st.lists(st.integers(0, most), min_size=pp, max_size=pp).map(tuple)
    times = StageTimes(forward_ns=data.draw(row), backward_ns=data.draw(row), latency_ns=latency_ns)
    case = Case(
        kind=ScheduleKind.ONE_F_ONE_B,
        pp=pp,
        vpp=1,
        num_microbatches=num_microbatches,
        microbatch_group_size=1,
    )

    skipped_ns = one_f_one_b_makespan_ns(times, num_microbatches=num_microbatches)

    assert skipped_ns == timeline(case.schedule(), times).makespan_ns
