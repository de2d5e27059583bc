"""Groups of microbatches that interleaved schedules take, and the nearest ones that they would."""

from orchestrator.schedules.refusal import Refusal
from orchestrator.specs.choices import ScheduleKind


def refusal(kind: ScheduleKind, *, pp: int, m: int, g: int) -> Refusal | None:
    """Return why Megatron-Core refuses groups of g among m microbatches, None when it runs."""
    rest = m % g
    if pp <= g <= m and (rest == 0 or rest >= pp):
        return None
    if m < pp:
        reason = f"{kind} needs at least pp microbatches a step: {m} is less than pp {pp}"
    elif g < pp:
        reason = f"microbatch_group_size {g} is less than pp {pp}"
    elif g > m:
        reason = f"microbatch_group_size {g} is more than the {m} microbatches of a step"
    else:
        reason = (
            f"{m} microbatches in groups of {g} leave a last group of {rest}, less than pp {pp}: "
            "ranks would idle or wait for each other for ever"
        )
    microbatches = _nearest_microbatches(pp=pp, m=m, g=g)
    group_size = _nearest_group_size(pp=pp, m=m, g=g)
    words = []
    if m not in microbatches:
        words.append(f"{_either(microbatches)} microbatches in groups of {max(g, pp)}")
    if group_size is not None:
        words.append(f"{m} microbatches in groups of {group_size}")
    return Refusal(
        reason=reason,
        possible="; or ".join(words),
        nearest_num_microbatches=microbatches,
        nearest_group_size=group_size,
    )


def rounds_refusal(kind: ScheduleKind, *, pp: int, m: int) -> Refusal | None:
    """Return why torch refuses m microbatches in rounds, None when it runs.

    torch makes max(1, m // pp) rounds, which have to be equal.
    """
    rounds = _rounds(pp, m)
    if m % rounds == 0:
        return None
    # Ends both ways: pp x rounds is below or at m, and every multiple of pp is legal.
    below = next(n for n in range(m - 1, 0, -1) if n % _rounds(pp, n) == 0)
    above = next(n for n in range(m + 1, m + pp + 1) if n % _rounds(pp, n) == 0)
    return Refusal(
        reason=f"torch's {kind} runs {m} microbatches in {rounds} rounds (m // pp), which are "
        f"not equal: {m % rounds} would be left over",
        possible=f"{_either((below, above))} microbatches",
        nearest_num_microbatches=(below, above),
    )


def _rounds(pp: int, m: int) -> int:
    return max(1, m // pp)


def _nearest_microbatches(*, pp: int, m: int, g: int) -> tuple[int, ...]:
    """Return the legal microbatch counts around m for group size g, or pp where g is smaller."""
    g = max(g, pp)
    if m <= g:
        return (g,)
    whole = m - m % g
    return (m,) if m % g == 0 or m % g >= pp else (whole, whole + pp)


def _nearest_group_size(*, pp: int, m: int, g: int) -> int | None:
    """Return the legal group size closest to g for m microbatches; the smaller of two."""
    if m < pp:
        return None
    start = min(max(g, pp), m)
    # Ends: a single group of all m microbatches is always legal.
    for distance in range(m):
        for size in (start - distance, start + distance):
            if pp <= size <= m and (m % size == 0 or m % size >= pp):
                return size
    return None


def _either(numbers: tuple[int, ...]) -> str:
    return " or ".join(map(str, numbers))
