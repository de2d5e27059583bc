"""The bubble under each measure's name, and the causes of a makespan."""

from fractions import Fraction

from orchestrator.schedules.bubbles import BubbleReport, bubble_report
from orchestrator.schedules.schedule import build
from orchestrator.schedules.simulate import Timeline, simulate
from orchestrator.schedules.times import MAX_NS, StageTimes
from orchestrator.specs.choices import ScheduleKind


def report(kind: ScheduleKind, vpp: int, times: StageTimes) -> BubbleReport:
    schedule = build(
        kind,
        pp=times.num_stages // vpp,
        vpp=vpp,
        num_microbatches=8,
        microbatch_group_size=times.num_stages // vpp,
    )
    timeline = simulate(schedule, times=times)
    assert isinstance(timeline, Timeline)
    return bubble_report(timeline, times=times)


def test_zb_v_is_zero_by_span_alone():
    times = StageTimes.uniform(num_stages=8, forward_ns=1, backward_ns=2)

    found = report(ScheduleKind.ZB_V, 2, times)

    assert found.span_bubble_ns == 0
    assert found.makespan_bubble_ns == 3
    assert found.idle_ns == (3, 3, 3, 3)


def test_latency_is_told_apart_from_the_order():
    times = StageTimes.uniform(num_stages=4, forward_ns=10, backward_ns=20, latency_ns=1)

    found = report(ScheduleKind.ONE_F_ONE_B, 1, times)

    assert found.order_ns == 3 * 30
    assert found.imbalance_ns == 0
    # 2 (p - 1) (q + 1) + 2 max(0, s - 1) hops with q, s = divmod(7, 4)
    assert found.latency_ns == 16


def test_a_heavy_last_stage_is_imbalance():
    times = StageTimes(forward_ns=(10, 10, 10, 12), backward_ns=(20, 20, 20, 24))

    found = report(ScheduleKind.ONE_F_ONE_B, 1, times)

    assert found.makespan_ns == 11 * 30 + 8 * 6
    # The average stage takes 31.5: eight times the work, three times the bubble of the order.
    assert found.ideal_ns == 8 * Fraction(63, 2)
    assert found.order_ns == 3 * Fraction(63, 2)
    assert found.imbalance_ns == found.makespan_ns - 11 * Fraction(63, 2)


def test_the_causes_sum_to_the_makespan():
    times = StageTimes(
        forward_ns=(3, 5, 7, 11),
        backward_ns=(9, 8, 7, 30),
        weight_grad_ns=(1, 2, 3, 4),
        latency_ns=3,
    )

    found = report(ScheduleKind.ONE_F_ONE_B, 1, times)

    causes = found.ideal_ns + found.order_ns + found.imbalance_ns + found.latency_ns
    assert causes == found.makespan_ns
    assert found.fraction == found.makespan_bubble_ns / found.makespan_ns
    assert found.overhead == found.makespan_bubble_ns / found.ideal_ns


def test_no_work_at_all_is_no_bubble():
    found = report(
        ScheduleKind.ONE_F_ONE_B, 1, StageTimes.uniform(num_stages=2, forward_ns=0, backward_ns=0)
    )

    assert (found.fraction, found.overhead) == (0, 0)


def test_uneven_stages_near_the_longest_time_are_averaged_exactly():
    times = StageTimes(forward_ns=(MAX_NS, MAX_NS - 1, MAX_NS), backward_ns=(MAX_NS,) * 3)

    found = report(ScheduleKind.ONE_F_ONE_B, 1, times)

    # Ten slots of the average stage, two of them the bubble: 2 x (2 MAX_NS - 1/3).
    assert found.order_ns == 2 * (2 * MAX_NS - Fraction(1, 3))


def test_equal_stages_of_the_longest_time_are_not_multiplied_past_64_bits():
    times = StageTimes.uniform(num_stages=1_000, forward_ns=MAX_NS, backward_ns=MAX_NS)

    found = report(ScheduleKind.ONE_F_ONE_B, 1, times)

    assert found.order_ns == 999 * 2 * MAX_NS
