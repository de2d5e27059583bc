"""Seconds of one optimizer step, by cause: bills times prices, put together by `compose`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from orchestrator.cost.bills import bills_of, rank_bill
from orchestrator.cost.compose import PARTS, Array, PriceTable, composed, work_parts
from orchestrator.cost.exchange import hides_tp, pp_bill
from orchestrator.cost.prices import Prices, prices_of
from orchestrator.cost.share import shares_of
from orchestrator.cost.slice import slice_of
from orchestrator.cost.workload import Workload
from orchestrator.records.layout import Layout
from orchestrator.records.plan import CostParts

BATCH = 512
"""Layouts priced at once: their bills stay in the cache of a core."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSeconds:
    """What one microbatch costs a virtual stage: forward, backward, and its weight gradients.

    `weight_grad_s` is a part of `backward_s`.
    """

    forward_s: float
    backward_s: float
    weight_grad_s: float


def cost_of(workload: Workload, layout: Layout) -> CostParts:
    """Return the seconds of one optimizer step of a layout."""
    return costs_of(workload, (layout,))[0]


def costs_of(workload: Workload, layouts: Sequence[Layout]) -> tuple[CostParts, ...]:
    """Return the seconds of one optimizer step of each layout."""
    found: list[CostParts] = []
    for start in range(0, len(layouts), BATCH):
        seconds = _seconds(workload, layouts[start : start + BATCH])
        found += [_parts_of(row) for row in seconds.tolist()]
    return tuple(found)


def stage_seconds(workload: Workload, layout: Layout) -> tuple[StageSeconds, ...]:
    """Return what one microbatch costs each virtual stage, sends between ranks left out.

    Of what computes, forward is a third and backward the rest; exchanges and the host are
    halved; recomputation belongs to the backward, and so do weight gradients: a third of the
    products.
    """
    part = slice_of(workload, layout)
    # Each stage as if it were a rank of its own: what it holds is then its share.
    apart = replace(layout, pp=layout.num_stages, vpp=1)
    rows = [
        rank_bill(
            workload,
            part,
            share=share,
            recompute=layout.recompute,
            hides_tp=hides_tp(layout),
        )
        for share in shares_of(workload.shape, apart)
    ]
    work = np.array([[row.work for row in rows]])
    again = np.array([[row.again for row in rows]])
    parts = {name: seconds[0] for name, seconds in work_parts(work, again, table(workload)).items()}
    computed = sum(parts[name] for name in ("matmul", "attention", "elementwise", "logits"))
    exchanged = sum(parts[name] for name in ("tp_comm", "cp_comm", "ep_comm", "host"))
    forward = computed / 3 + exchanged / 2
    total = computed + exchanged + parts["recompute"]
    weights = (parts["matmul"] + parts["logits"]) / 3
    return tuple(
        StageSeconds(forward_s=f, backward_s=t - f, weight_grad_s=w)
        for f, t, w in zip(forward.tolist(), total.tolist(), weights.tolist(), strict=True)
    )


def hop_s(workload: Workload, layout: Layout) -> float:
    """Return the exposed seconds of one send between pipeline ranks."""
    if layout.pp == 1:
        return 0.0
    bill = pp_bill(workload, layout, slice_of(workload, layout))
    return float(bill @ table(workload).unit[0]) / (2 * layout.vpp)


@lru_cache(maxsize=256)
def table(workload: Workload) -> PriceTable:
    """Return a workload's prices as arrays for any number of layouts."""
    return table_of([prices_of(workload, workload.calibration)])


def table_of(rows: Sequence[Prices]) -> PriceTable:
    """Return prices of many layouts as arrays."""
    return PriceTable(
        unit=np.array([row.unit for row in rows]),
        launch_s=np.array([row.launch_s for row in rows]),
        cp_exposed=np.array([row.cp_exposed for row in rows]),
        dp_exposed=np.array([row.dp_exposed for row in rows]),
        gather_exposed=np.array([row.gather_exposed for row in rows]),
        step_s=np.array([row.step_s for row in rows]),
        straggler=np.array([row.straggler for row in rows]),
        slowdown=np.array([row.slowdown for row in rows]),
    )


def _seconds(workload: Workload, layouts: Sequence[Layout]) -> Array:
    return composed(bills_of(workload, layouts), table(workload))


def _parts_of(row: Sequence[float]) -> CostParts:
    return CostParts(**{f"{name}_s": value for name, value in zip(PARTS, row, strict=True)})
