"""How long pipeline ranks idle, under the name of what is measured.

Three measures are in use, and they disagree; none is ever printed without its name:

- makespan: first start to last end over all ranks, less the work (GPipe, Megatron, Llama);
- span: the longest rank's own first start to own last end, less the work (zero-bubble papers:
  "zero" there means that ranks roll into the next step staggered, which needs an optimizer
  that does not wait for all of them);
- idle: makespan less a rank's own work, rank by rank.

The work, `ideal_ns`, is what a rank computes on average.
"""

from dataclasses import dataclass, replace
from fractions import Fraction
from math import gcd

from orchestrator.errors import UsageError
from orchestrator.schedules.schedule import Schedule
from orchestrator.schedules.simulate import Deadlock, Timeline, simulate
from orchestrator.schedules.times import StageTimes


@dataclass(frozen=True, slots=True, kw_only=True)
class BubbleReport:
    """The bubble of one step by each measure, and its makespan by cause; nanoseconds, exact.

    makespan = ideal + order + imbalance + latency: what the order costs with stages of equal
    time and no latency, what unequal stages add to that (below 0 where they happen to help),
    and what latency adds then.
    """

    makespan_ns: int
    span_ns: int
    busy_ns: tuple[int, ...]
    ideal_ns: Fraction
    order_ns: Fraction
    imbalance_ns: Fraction
    latency_ns: int

    @property
    def makespan_bubble_ns(self) -> Fraction:
        """Makespan less the average work."""
        return self.makespan_ns - self.ideal_ns

    @property
    def span_bubble_ns(self) -> Fraction:
        """Longest span of a rank less the average work."""
        return self.span_ns - self.ideal_ns

    @property
    def idle_ns(self) -> tuple[int, ...]:
        """Makespan less work, by rank."""
        return tuple(self.makespan_ns - busy for busy in self.busy_ns)

    @property
    def fraction(self) -> Fraction:
        """Share of the makespan that ranks idle on average."""
        return self.makespan_bubble_ns / self.makespan_ns if self.makespan_ns else Fraction(0)

    @property
    def overhead(self) -> Fraction:
        """Makespan bubble over the work, as the Megatron and Llama papers quote it."""
        return self.makespan_bubble_ns / self.ideal_ns if self.ideal_ns else Fraction(0)


def bubble_report(timeline: Timeline, *, times: StageTimes) -> BubbleReport:
    """Return the bubble of a timeline that was simulated with these times."""
    schedule = timeline.schedule
    ideal_ns = Fraction(sum(timeline.busy_ns), schedule.pp)
    prompt_ns = _makespan_ns(schedule, replace(times, latency_ns=0))
    even, scale = _averaged(times)
    even_ns = Fraction(_makespan_ns(schedule, even), scale)
    return BubbleReport(
        makespan_ns=timeline.makespan_ns,
        span_ns=timeline.span_ns,
        busy_ns=timeline.busy_ns,
        ideal_ns=ideal_ns,
        order_ns=even_ns - ideal_ns,
        imbalance_ns=prompt_ns - even_ns,
        latency_ns=timeline.makespan_ns - prompt_ns,
    )


def _averaged(times: StageTimes) -> tuple[StageTimes, int]:
    """Return times in which all stages take the average, and what they are multiplied by.

    The multiple is the least that keeps integers exact: 1 where the stages are equal.
    """
    num = times.num_stages
    sums = (sum(times.forward_ns), sum(times.backward_ns), sum(times.weight_grads_ns))
    shared = gcd(num, *sums)
    scale = num // shared
    forward_ns, backward_ns, weight_grad_ns = (total // shared for total in sums)
    even = StageTimes(
        forward_ns=(forward_ns,) * num,
        backward_ns=(backward_ns,) * num,
        weight_grad_ns=(weight_grad_ns,) * num,
        overlap_saves_ns=times.overlap_saves_ns * scale,
        longest_ns=times.longest_ns * scale,
    )
    return even, scale


def _makespan_ns(schedule: Schedule, times: StageTimes) -> int:
    answer = simulate(schedule, times=times)
    if isinstance(answer, Deadlock):  # durations cannot make one, so the timeline had none
        raise UsageError(problem=f"the ranks wait for each other: {answer}")
    return answer.makespan_ns
