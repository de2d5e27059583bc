"""From bills and prices to the seconds of a step: for many layouts at once.

The pipeline: a microbatch costs rank r the time t_r (forward, backward, exposed communication,
host). With p ranks, v chunks and m microbatches the step takes

    T = m max_r t_r + k (sum_r t_r - max_r t_r) / v

with k = 1 where backwards are whole, which is exact for 1F1B with one heavy end stage, and for
equal stages it is the closed form (m v + p - 1) t / v of `schedules.closed_forms`; where
schedules split the backward, k is what they leave of that bubble (`stages.py`). For stages
uneven in the middle it is an upper bound, at most 16 % in 500 random cases. The work parts are
the mean over ranks, `imbalance_s` is m (max - mean) and `bubble_s` the second term: they sum to
the step.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from orchestrator.cost.quantity import NUM_QUANTITIES, Quantity

Array = npt.NDArray[np.float64]

PARTS = (
    *("matmul", "attention", "elementwise", "logits", "recompute"),
    *("tp_comm", "cp_comm", "ep_comm", "pp_comm", "dp_comm"),
    *("bubble", "imbalance", "optimizer", "host"),
)
"""The parts of a step, in the order of the last axis of what `composed` returns."""

_WORK = ("matmul", "attention", "elementwise", "logits", "tp_comm", "ep_comm", "pp_comm", "host")
_Q = Quantity
_ENTRIES: dict[str, tuple[Quantity, ...]] = {
    "matmul": (
        *(_Q.GEMM_FLOP, _Q.GEMM_BYTES, _Q.WIDE_FLOP, _Q.WIDE_BYTES),
        *(_Q.GROUPED_FLOP, _Q.GROUPED_BYTES, _Q.ACCUMULATED_BYTES),
    ),
    "attention": (
        *(_Q.ATTENTION_FLOP, _Q.ATTENTION_EDGE_FLOP, _Q.ATTENTION_NARROW_FLOP),
        *(_Q.ATTENTION_ODD_FLOP, _Q.SCORE_BYTES),
    ),
    "elementwise": (_Q.ELEMENT_BYTES, _Q.PERMUTED_BYTES, _Q.CAST_BYTES),
    "logits": (_Q.LOGIT_FLOP, _Q.LOGIT_BYTES, _Q.LOSS_BYTES),
    "tp_comm": (
        *(_Q.TP_NEAR_BYTES, _Q.TP_FAR_BYTES, _Q.TP_CALLS),
        *(_Q.HIDDEN_TP_NEAR_BYTES, _Q.HIDDEN_TP_FAR_BYTES, _Q.HIDDEN_TP_CALLS),
    ),
    "cp_comm": (_Q.CP_NEAR_BYTES, _Q.CP_FAR_BYTES, _Q.CP_CALLS),
    "ep_comm": (_Q.EP_NEAR_BYTES, _Q.EP_FAR_BYTES, _Q.EP_CALLS),
    "pp_comm": (
        *(_Q.PP_NEAR_BYTES, _Q.PP_FAR_BYTES, _Q.PP_CALLS),
        *(_Q.HIDDEN_PP_NEAR_BYTES, _Q.HIDDEN_PP_FAR_BYTES),
    ),
    "gather": (_Q.GATHER_NEAR_BYTES, _Q.GATHER_FAR_BYTES, _Q.GATHER_CALLS),
    "gradient": (_Q.GRADIENT_NEAR_BYTES, _Q.GRADIENT_FAR_BYTES),
    "parameter": (_Q.PARAMETER_NEAR_BYTES, _Q.PARAMETER_FAR_BYTES),
    "optimizer": (_Q.OPTIMIZER_BYTES,),
    "host": (_Q.LAYERS, _Q.MOE_LAYERS, _Q.EXPERTS),
}
_GROUPS = tuple(_ENTRIES)
_PLACE = {name: place for place, name in enumerate(_GROUPS)}


def _membership() -> Array:
    table = np.zeros((NUM_QUANTITIES, len(_GROUPS)))
    for name, entries in _ENTRIES.items():
        table[list(entries), _PLACE[name]] = 1
    return table


MEMBERSHIP = _membership()
"""Which quantity belongs to which group: [NUM_QUANTITIES, groups]."""

BACKWARD_SHARE = 2 / 3
"""Share of a microbatch that is backward: gradients can only leave during it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bills:
    """The bills of n layouts, each with up to k kinds of pipeline ranks, and their sizes.

    `work` [n, k, q] is forward and backward of a microbatch, `again` [n, k, q] what is
    recomputed, `replica` [n, k, q] what replicas exchange. `ranks` [n, k] counts the pipeline
    ranks of each kind, 0 where a layout has fewer kinds. The rest is [n]: microbatches, `vpp`,
    the bubble factor of the schedule, ranks in all, and whether gradients overlap (0 or 1).
    """

    work: Array
    again: Array
    replica: Array
    ranks: Array
    microbatches: Array
    vpp: Array
    bubble: Array
    world: Array
    overlaps: Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PriceTable:
    """Prices of n layouts: `unit` [n or 1, q], the rest [n or 1]; meanings as in `Prices`."""

    unit: Array
    launch_s: Array
    cp_exposed: Array
    dp_exposed: Array
    gather_exposed: Array
    step_s: Array
    straggler: Array
    slowdown: Array


def composed(bills: Bills, prices: PriceTable) -> Array:
    """Return the seconds of each part of a step, [n, len(PARTS)], in the order of `PARTS`.

    Ring attention, gradients and gathers hide behind computation as long as it lasts: what is
    exposed is a fixed share, and whatever the computation beside it cannot cover.
    """
    parts = work_parts(bills.work, bills.again, prices)
    rank = np.sum(list(parts.values()), axis=0)
    replica = _grouped(bills.replica, prices)
    gather = _exposed(replica[..., _PLACE["gather"]], prices.gather_exposed[:, None], rank)
    rank = rank + gather
    gather_step = bills.microbatches * _weighted(gather, bills)
    return _stepped(bills, prices, parts=parts, rank=rank, replica=replica, gather=gather_step)


def work_parts(work: Array, again: Array, prices: PriceTable) -> dict[str, Array]:
    """Return the seconds of a microbatch on each kind of rank by cause, [n, k] each.

    A rank takes no less than its launches: what they outlast the work is the host's.
    """
    slow = prices.slowdown[:, None]
    groups = _grouped(work, prices) * slow[..., None]
    repeated = _grouped(again, prices) * slow[..., None]
    parts = {name: groups[..., _PLACE[name]] for name in _WORK}
    parts["recompute"] = repeated.sum(axis=-1)
    busy = parts["matmul"] + parts["attention"] + parts["elementwise"] + parts["logits"]
    launches = work[..., _Q.LAYERS] * (prices.launch_s[:, None] * slow)
    parts["host"] = parts["host"] + np.maximum(0.0, launches - busy - parts["host"])
    ring = groups[..., _PLACE["cp_comm"]]
    parts["cp_comm"] = _exposed(ring, prices.cp_exposed[:, None], parts["attention"])
    return parts


def _stepped(
    bills: Bills,
    prices: PriceTable,
    *,
    parts: dict[str, Array],
    rank: Array,
    replica: Array,
    gather: Array,
) -> Array:
    m, present = bills.microbatches, bills.ranks > 0
    slowest = np.where(present, rank, 0.0).max(axis=-1)
    total = (rank * bills.ranks).sum(axis=-1)
    count = bills.ranks.sum(axis=-1)
    seconds = {name: m * _weighted(value, bills) for name, value in parts.items()}
    seconds["imbalance"] = m * (slowest - total / count)
    seconds["bubble"] = bills.bubble * (total - slowest) / bills.vpp
    exposed = np.where(bills.overlaps > 0, prices.dp_exposed, 1.0)[:, None]
    window = np.where(bills.overlaps[:, None] > 0, rank, 0.0)
    gradient = _exposed(replica[..., _PLACE["gradient"]], exposed, BACKWARD_SHARE * window)
    parameter = _exposed(replica[..., _PLACE["parameter"]], exposed, (1 - BACKWARD_SHARE) * window)
    exchange = np.where(present, gradient + parameter, 0.0).max(axis=-1)
    seconds["dp_comm"] = gather + exchange
    seconds["optimizer"] = np.where(present, replica[..., _PLACE["optimizer"]], 0.0).max(axis=-1)
    step = np.sum([seconds[name] for name in PARTS], axis=0)
    doublings = np.log2(np.maximum(bills.world, 1))
    seconds["host"] = seconds["host"] + prices.step_s + prices.straggler * doublings * step
    return np.stack([seconds[name] for name in PARTS], axis=-1)


def _grouped(bill: Array, prices: PriceTable) -> Array:
    """Return seconds by group of quantities, [n, k, groups]."""
    seconds: Array = (bill * prices.unit[:, None, :]) @ MEMBERSHIP
    return seconds


def _exposed(exchange: Array, share: Array, beside: Array) -> Array:
    """Return what computation does not hide: a share, and what outlasts `beside`."""
    return share * exchange + np.maximum(0.0, (1 - share) * exchange - beside)


def _weighted(value: Array, bills: Bills) -> Array:
    """Return the mean over pipeline ranks, [n]."""
    mean: Array = (value * bills.ranks).sum(axis=-1) / bills.ranks.sum(axis=-1)
    return mean
