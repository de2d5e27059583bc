"""Laws of what the engines take: legal orders run, refused ones name numbers that would do."""

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.schedules import legal
from orchestrator.schedules.engines import PipelineEngine
from orchestrator.schedules.refusal import Refusal
from orchestrator.schedules.schedule import arranged
from orchestrator.schedules.simulate import Deadlock, simulate
from orchestrator.schedules.times import StageTimes
from orchestrator.specs.choices import ScheduleKind


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


@given(st.integers(1, 8), st.integers(1, 60))
def test_the_nearest_rounds_of_torch_are_legal_and_none_is_nearer(pp, m):
    def refused(m: int) -> Refusal | None:
        return legal.refusal_by(
            PipelineEngine.TORCH,
            ScheduleKind.ZERO_BUBBLE,
            pp=pp,
            vpp=2,
            num_microbatches=m,
            microbatch_group_size=1,
        )

    found = refused(m)

    if found is not None:
        below, above = found.nearest_num_microbatches
        assert below < m < above
        assert [n for n in range(below, above + 1) if refused(n) is None] == [below, above]
