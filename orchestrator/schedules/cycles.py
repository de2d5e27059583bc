"""The makespan of 1F1B with stages of any times, by skipping the rounds that repeat.

In the steady state each rank runs one forward and one backward a round, and a round maps the
2 pp times at which ranks ended their last forward and backward to the next ones by maximum
and addition alone. So when all of them have moved on by the same time since an earlier round,
they will for ever: the rounds that are left are skipped by one multiplication, and the drain is
simulated as it is. Nothing is extrapolated; in integers the answer is that of `simulate`.

Stages of nearly the same weight may take many rounds until they repeat; then there is less
to skip, and the answer is the same.
"""

from collections.abc import MutableSequence, Sequence

import numpy as np

from orchestrator.errors import UsageError
from orchestrator.schedules import fast
from orchestrator.schedules.codes import Codes
from orchestrator.schedules.schedule import arranged
from orchestrator.schedules.simulate import Timeline, simulate
from orchestrator.schedules.times import StageTimes
from orchestrator.specs.choices import ScheduleKind


def one_f_one_b_makespan_ns(times: StageTimes, *, num_microbatches: int) -> int:
    """Return the makespan of 1F1B, one stage a rank."""
    if num_microbatches < times.num_stages:
        return _simulated_ns(times, num_microbatches=num_microbatches)
    return steady_makespan_ns(
        list(times.forward_ns),
        list(times.backward_ns),
        times.latency_ns,
        num_microbatches,
        [0] * (4 * times.num_stages),
    )


def one_f_one_b_makespans_ns(
    forward_ns: Codes, backward_ns: Codes, *, latency_ns: int, num_microbatches: int
) -> Codes:
    """Return the makespan of each candidate, a row of stage times; compiled where numba is there.

    Raises:
        UsageError: there are fewer microbatches than stages.
    """
    num_candidates, num_stages = forward_ns.shape
    if num_microbatches < num_stages:
        raise UsageError(
            problem=f"{num_microbatches} microbatches are fewer than the {num_stages} stages",
            instead="one_f_one_b_makespan_ns takes any number",
        )
    makespans_ns = np.empty(num_candidates, dtype=np.int64)
    if fast.is_available():
        memory = np.zeros(4 * num_stages, dtype=np.int64)
        kernel = fast.compiled(steady_makespan_ns)
        for row in range(num_candidates):
            makespans_ns[row] = kernel(
                forward_ns[row], backward_ns[row], latency_ns, num_microbatches, memory
            )
        return makespans_ns
    for row in range(num_candidates):
        makespans_ns[row] = steady_makespan_ns(
            forward_ns[row].tolist(),
            backward_ns[row].tolist(),
            latency_ns,
            num_microbatches,
            [0] * (4 * num_stages),
        )
    return makespans_ns


def steady_makespan_ns(  # noqa: C901, PLR0912, PLR0915  numba compiles one function whole
    forward_ns: Sequence[int],
    backward_ns: Sequence[int],
    latency_ns: int,
    num_microbatches: int,
    memory: MutableSequence[int],
) -> int:
    """Return the makespan for at least as many microbatches as stages: the kernel itself.

    `memory` has four places a stage: the end of its last forward, of its last backward, and
    both as they were some rounds ago. One function, so that numba compiles it whole.
    """
    num_stages = len(forward_ns)
    ends, saved = 2 * num_stages, 4 * num_stages
    for place in range(saved):
        memory[place] = 0
    # Warm-up: rank r runs num_stages - 1 - r forwards; `wave` is when the rank before ended each.
    for rank in range(num_stages):
        now_ns = 0
        for microbatch in range(num_stages - 1 - rank):
            place = ends + microbatch  # the saved state is not in use yet
            arrives_ns = memory[place] + latency_ns if rank > 0 else 0
            now_ns = (max(now_ns, arrives_ns)) + forward_ns[rank]
            memory[place] = now_ns
        memory[rank] = now_ns
    num_rounds = num_microbatches - num_stages + 1
    done, saved_at, next_save = 0, 0, 1
    is_watching = True
    for place in range(ends):
        memory[ends + place] = memory[place]
    # From the last rank down: each reads what the rank before it ended a round ago.
    while done < num_rounds:
        for turn in range(num_stages):
            rank = num_stages - 1 - turn
            now_ns = memory[rank]
            now_ns = max(now_ns, memory[num_stages + rank])
            if rank > 0 and memory[rank - 1] + latency_ns > now_ns:
                now_ns = memory[rank - 1] + latency_ns
            now_ns += forward_ns[rank]
            memory[rank] = now_ns
            if turn > 0 and memory[num_stages + rank + 1] + latency_ns > now_ns:
                now_ns = memory[num_stages + rank + 1] + latency_ns
            memory[num_stages + rank] = now_ns + backward_ns[rank]
        done += 1
        if not is_watching:
            continue
        moved_ns = memory[0] - memory[ends]
        place = 1
        while place < ends and memory[place] - memory[ends + place] == moved_ns:
            place += 1
        if place == ends:
            period = done - saved_at
            skipped = (num_rounds - done) // period
            for place in range(ends):
                memory[place] += skipped * moved_ns
            done += skipped * period
            is_watching = False
        elif done == next_save:
            # Brent: look back to rounds 1, 2, 4, 8 ... so that any period is found.
            for place in range(ends):
                memory[ends + place] = memory[place]
            saved_at, next_save = done, 2 * done
    # Drain: in round j the ranks from j on have a forward left, all have a backward.
    for drained in range(1, num_stages):
        for turn in range(num_stages):
            rank = num_stages - 1 - turn
            now_ns = memory[num_stages + rank]
            if rank >= drained:
                now_ns = max(now_ns, memory[rank - 1] + latency_ns)
                now_ns += forward_ns[rank]
                memory[rank] = now_ns
            if turn > 0 and memory[num_stages + rank + 1] + latency_ns > now_ns:
                now_ns = memory[num_stages + rank + 1] + latency_ns
            memory[num_stages + rank] = now_ns + backward_ns[rank]
    return memory[num_stages]


def _simulated_ns(times: StageTimes, *, num_microbatches: int) -> int:
    answer = simulate(
        arranged(
            ScheduleKind.ONE_F_ONE_B,
            pp=times.num_stages,
            vpp=1,
            num_microbatches=num_microbatches,
            microbatch_group_size=1,
        ),
        times=times,
    )
    assert isinstance(answer, Timeline)  # noqa: S101  1F1B never deadlocks: a law of the tests
    return answer.makespan_ns
