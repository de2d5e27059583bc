"""The rank map: which rank stands where on the parallel axes, and with whom it talks.

Megatron's order `tp-cp-ep-dp-pp`, innermost first: a dense rank is
`tp + TP x (cp + CP x (dp + DP x pp))`. Expert layers cut the same world as
`etp + ETP x (ep + EP x (edp + EDP x pp))`. Other orders permute the axes, the same for both.
Source: `megatron/core/parallel_state.py` 0.16.1, `RankGenerator`.
"""

from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from orchestrator.errors import UsageError
from orchestrator.records.layout import Layout

Group = tuple[int, ...]
Order = tuple[tuple[str, int], ...]
RankTable = NDArray[np.int32]
"""Ranks as [groups, members], groups in the order of their first rank, members sorted."""

_AXES = ("tp", "cp", "ep", "dp", "pp")
_EXPERT_NAMES = {"tp": "etp", "ep": "ep", "dp": "edp", "pp": "pp"}


@dataclass(frozen=True, slots=True)
class RankOrder:
    """The axes from the one whose neighbours are nearest to the one whose are farthest.

    An axis that is not named stands outermost and must have degree 1, as in Megatron.

    Raises:
        UsageError: an axis is unknown or named twice.
    """

    text: str = "-".join(_AXES)

    def __post_init__(self) -> None:
        names = self.text.split("-")
        if len(set(names)) != len(names) or not set(names) <= set(_AXES):
            raise UsageError(
                problem=f"'{self.text}' is no order of ranks",
                instead=f"name each of {', '.join(_AXES)} once, such as {MEGATRON_ORDERS[0]}",
            )

    @property
    def axes(self) -> tuple[str, ...]:
        """All axes, innermost first."""
        names = tuple(self.text.split("-"))
        return names + tuple(axis for axis in _AXES if axis not in names)


MEGATRON_ORDERS = ("tp-cp-ep-dp-pp", "tp-cp-ep-pp-dp")
"""What Megatron-LM's flags can say: its default, and `--use-tp-pp-dp-mapping`."""

DEFAULT_ORDER = RankOrder()


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


def dense_order(layout: Layout, order: RankOrder = DEFAULT_ORDER) -> Order:
    """Return the dense axes, innermost first, with their degrees."""
    return tuple((axis, int(getattr(layout, axis))) for axis in order.axes if axis != "ep")


def expert_order(layout: Layout, order: RankOrder = DEFAULT_ORDER) -> Order:
    """Return the expert axes, innermost first, with their degrees."""
    degrees = {"etp": layout.etp, "ep": layout.ep, "edp": layout.expert_dp, "pp": layout.pp}
    names = (_EXPERT_NAMES[axis] for axis in order.axes if axis != "cp")
    return tuple((name, degrees[name]) for name in names)


def order_problem(layout: Layout, order: RankOrder, *, has_experts: bool) -> str | None:
    """Return why Megatron refuses an order for a layout, or None where it does not.

    Source: `initialize_model_parallel` 0.16.1: an axis left out has degree 1, experts divide
    the world, an order that does not end with pp has the same dp for dense and expert layers,
    and both have the same pipeline groups.
    """
    named = order.text.split("-")
    for axis in _AXES:
        if axis not in named and getattr(layout, axis) > 1:
            return f"the order {order.text} leaves out {axis}, which is {getattr(layout, axis)}"
    if not has_experts:
        return None
    experts = layout.etp * layout.ep * layout.pp
    if layout.world_size % experts:
        return f"{layout.world_size} ranks do not divide by etp x ep x pp = {experts}"
    dense, expert = dense_order(layout, order), expert_order(layout, order)
    unlike = not order.text.endswith("pp") and layout.pp > 1 and layout.expert_dp != layout.dp
    if unlike or not np.array_equal(_table(dense, ("pp",)), _table(expert, ("pp",))):
        return (
            f"the order {order.text} does not end with pp, so dense layers (dp {layout.dp}) and "
            f"experts (expert dp {layout.expert_dp}) would not share their pipelines"
        )
    return None


def coordinate_of(rank: int, layout: Layout, order: RankOrder = DEFAULT_ORDER) -> Coordinate:
    """Return the dense coordinate of a rank."""
    return Coordinate(**_digits(rank, dense_order(layout, order)))


def expert_coordinate_of(
    rank: int, layout: Layout, order: RankOrder = DEFAULT_ORDER
) -> ExpertCoordinate:
    """Return the expert coordinate of a rank."""
    return ExpertCoordinate(**_digits(rank, expert_order(layout, order)))


def rank_of(coordinate: Coordinate, layout: Layout, order: RankOrder = DEFAULT_ORDER) -> int:
    """Return the rank that stands at a dense coordinate."""
    rank = 0
    for axis, degree in reversed(dense_order(layout, order)):
        rank = rank * degree + int(getattr(coordinate, axis))
    return rank


def coordinates(layout: Layout, order: RankOrder = DEFAULT_ORDER) -> dict[str, NDArray[np.int32]]:
    """Return where each rank stands on every axis, dense and expert: an array [world] an axis."""
    dense, expert = (
        _all_digits(layout.world_size, axes)
        for axes in (dense_order(layout, order), expert_order(layout, order))
    )
    return dense | {axis: numbers for axis, numbers in expert.items() if axis not in dense}


def rank_table(layout: Layout, *axes: str, order: RankOrder = DEFAULT_ORDER) -> RankTable:
    """Return the groups of ranks that differ on `axes` alone: [groups, members].

    `tp`, `cp`, `dp` and `pp` are the dense axes; `etp`, `ep` and `edp` the expert axes, with
    which `pp` goes as well.
    """
    expert = {"etp", "ep", "edp"} & set(axes)
    return _table((expert_order if expert else dense_order)(layout, order), axes)


def groups(layout: Layout, *axes: str, order: RankOrder = DEFAULT_ORDER) -> tuple[Group, ...]:
    """Return the groups of ranks that differ on `axes` alone, each sorted, in rank order."""
    return tuple(map(tuple, rank_table(layout, *axes, order=order).tolist()))


def stages_of(pp_rank: int, layout: Layout) -> tuple[int, ...]:
    """Return the virtual stages of a pipeline rank: stage s lives on rank s mod pp."""
    return tuple(chunk * layout.pp + pp_rank for chunk in range(layout.vpp))


def _table(order: Order, axes: tuple[str, ...]) -> RankTable:
    """Cut the world along its axes; numpy's outermost dim comes first, ours last."""
    world = prod(degree for _, degree in order)
    grid = np.arange(world, dtype=np.int32).reshape([degree for _, degree in reversed(order)])
    names = [axis for axis, _ in reversed(order)]
    inside = [place for place, axis in enumerate(names) if axis in axes]
    outside = [place for place in range(len(names)) if place not in inside]
    size = prod(grid.shape[place] for place in inside)
    return grid.transpose([*outside, *inside]).reshape(-1, size)


def _all_digits(world: int, order: Order) -> dict[str, NDArray[np.int32]]:
    found: dict[str, NDArray[np.int32]] = {}
    rest = np.arange(world, dtype=np.int32)
    for axis, degree in order:
        rest, found[axis] = np.divmod(rest, np.int32(degree))
    return found


def _digits(rank: int, order: Order) -> dict[str, int]:
    digits: dict[str, int] = {}
    for axis, degree in order:
        rank, digits[axis] = divmod(rank, degree)
    return digits
