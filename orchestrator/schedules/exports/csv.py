"""torch's table of a schedule: one row a rank, one cell a step, in torch's words.

`torch.distributed.pipelining` loads it (`_PipelineScheduleRuntime._load_csv`, `compute_only`), as
do torchtitan (`pipeline_parallel_schedule_csv`) and NeMo AutoModel (`pp_schedule_csv`).
"""

import csv
from io import StringIO

from orchestrator.errors import UsageError
from orchestrator.schedules.actions import Step, parse_step
from orchestrator.schedules.schedule import Schedule


def text_of(schedule: Schedule) -> str:
    """Return the table; a comma inside no cell, so any reader of CSV takes it."""
    return "".join(",".join(map(str, order)) + "\n" for order in schedule.orders)


def orders_of(text: str) -> tuple[tuple[Step, ...], ...]:
    """Return the steps of each rank that a table spells; empty cells are skipped.

    Raises:
        UsageError: a cell is not a step.
    """
    rows = [
        tuple(parse_step(cell.strip()) for cell in row if cell.strip())
        for row in csv.reader(StringIO(text))
    ]
    if not rows:
        raise UsageError(problem="the table is empty", instead="one row a rank")
    return tuple(rows)
