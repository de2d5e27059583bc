"""The rank map: which rank stands where on the parallel axes, and with whom it talks.

Megatron's order `tp-cp-ep-dp-pp`, innermost first: a dense rank is
`tp + TP x (cp + CP x (dp + DP x pp))`. Expert layers cut the same world as
`etp + ETP x (ep + EP x (edp + EDP x pp))`.
"""

from dataclasses import dataclass

from orchestrator.records.layout import Layout

Group = tuple[int, ...]
Order = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Coordinate:
    """Where a rank stands on the dense axes, each 0-based."""

    tp: int
    cp: int
    dp: int
    pp: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertCoordinate:
    """Where a rank stands on the expert axes, each 0-based."""

    etp: int
    ep: int
    edp: int
    pp: int


def dense_order(layout: Layout) -> Order:
    """Return the dense axes, innermost first, with their degrees."""
    return (("tp", layout.tp), ("cp", layout.cp), ("dp", layout.dp), ("pp", layout.pp))


def expert_order(layout: Layout) -> Order:
    """Return the expert axes, innermost first, with their degrees."""
    return (
        ("etp", layout.etp),
        ("ep", layout.ep),
        ("edp", layout.expert_dp),
        ("pp", layout.pp),
    )


def coordinate_of(rank: int, layout: Layout) -> Coordinate:
    """Return the dense coordinate of a rank."""
    return Coordinate(**_digits(rank, dense_order(layout)))


def expert_coordinate_of(rank: int, layout: Layout) -> ExpertCoordinate:
    """Return the expert coordinate of a rank."""
    return ExpertCoordinate(**_digits(rank, expert_order(layout)))


def rank_of(coordinate: Coordinate, layout: Layout) -> int:
    """Return the rank that stands at a dense coordinate."""
    rank = 0
    for axis, degree in reversed(dense_order(layout)):
        rank = rank * degree + int(getattr(coordinate, axis))
    return rank


def groups(layout: Layout, *axes: str) -> tuple[Group, ...]:
    """Return the groups of ranks that differ on `axes` alone, each sorted, in rank order.

    `groups(layout, "tp")` are the tensor-parallel groups; `groups(layout, "dp", "cp")` the
    domains over which optimizer states are sharded; `etp`, `ep` and `edp` are the expert axes.
    """
    expert = {"etp", "ep", "edp"} & set(axes)
    order = expert_order(layout) if expert else dense_order(layout)
    members: dict[tuple[int, ...], list[int]] = {}
    for rank in range(layout.world_size):
        digits = _digits(rank, order)
        key = tuple(digit for axis, digit in digits.items() if axis not in axes)
        members.setdefault(key, []).append(rank)
    return tuple(tuple(group) for group in sorted(members.values()))


def stages_of(pp_rank: int, layout: Layout) -> tuple[int, ...]:
    """Return the virtual stages of a pipeline rank: stage s lives on rank s mod pp."""
    return tuple(chunk * layout.pp + pp_rank for chunk in range(layout.vpp))


def _digits(rank: int, order: Order) -> dict[str, int]:
    digits: dict[str, int] = {}
    for axis, degree in order:
        rank, digits[axis] = divmod(rank, degree)
    return digits
