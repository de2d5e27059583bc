"""The simulation's inner loop: plain integers, so that Python runs it and numba compiles it."""

from collections.abc import MutableSequence, Sequence

Numbers = Sequence[int]
Memory = MutableSequence[int]


def run(  # noqa: PLR0913, PLR0917  numba takes arrays, not records
    offsets: Numbers,
    takes_ns: Numbers,
    needs: Numbers,
    lags_ns: Numbers,
    ends_ns: Memory,
    waiters: Memory,
    cursors: Memory,
    ready: Memory,
) -> int:
    """Fill `ends_ns`, run every rank as far as it comes, and return how many steps were done.

    `ends_ns` is -1 for steps not done, with one more place that is 0; `waiters` -1; `cursors`
    the first step of each rank; `ready` has a place for each rank. A step is waited for by one
    other rank at most. After a deadlock `cursors` say where the ranks are stuck.
    """
    num_ranks = len(cursors)
    for rank in range(num_ranks):
        ready[rank] = num_ranks - 1 - rank
    num_ready = num_ranks
    done = 0
    while num_ready > 0:
        num_ready -= 1
        rank = ready[num_ready]
        first = step = cursors[rank]
        stop = offsets[rank + 1]
        now_ns = ends_ns[step - 1] if step > offsets[rank] else 0
        while step < stop:
            need = needs[step]
            made_ns = ends_ns[need]
            if made_ns < 0:
                waiters[need] = rank
                break
            made_ns += lags_ns[step]
            now_ns = (max(now_ns, made_ns)) + takes_ns[step]
            ends_ns[step] = now_ns
            waiter = waiters[step]
            if waiter >= 0:
                ready[num_ready] = waiter
                num_ready += 1
            step += 1
        done += step - first
        cursors[rank] = step
    return done
