"""Where the ranks are: step lines of all ranks in, one row a step out, and the speed so far."""

import json
import os
from array import array
from pathlib import Path
from statistics import median

from launch.rank_lines import StepLine
from launch.supervisor.observer import StepRow


class Progress:
    """Counts the steps of one reign; knows nothing of phases.

    The ranks of a step that know its loss agree on it, so the first such line is the step's row; a
    step whose loss no rank knows gets its row when the last rank has reported it.
    """

    def __init__(self, *, world_size: int) -> None:
        self._world_size = world_size
        self._generation = 0
        self._steps_of_rank: dict[int, int] = {}
        self._reports: dict[int, int] = {}
        self._last_row_step = 0
        self._step_s = array("d")
        self._tokens_per_s = array("d")
        self.first_loss: float | None = None
        self.last_loss: float | None = None
        self.last_step: int | None = None

    @property
    def median_step_s(self) -> float | None:
        """Seconds of the middle step."""
        return median(self._step_s) if self._step_s else None

    @property
    def median_tokens_per_s(self) -> float | None:
        """Tokens a second of the middle step."""
        return median(self._tokens_per_s) if self._tokens_per_s else None

    def begin(self, generation: int, *, after_step: int = 0) -> None:
        """A new generation: steps may come again, those up to `after_step` have their rows."""
        self._generation = generation
        self._steps_of_rank.clear()
        self._reports.clear()
        self._last_row_step = after_step

    def first_common_step(self, rank: int, line: StepLine) -> int | None:
        """The step that all ranks have now done, told once: when the last of them has done one."""
        is_new = rank not in self._steps_of_rank
        self._steps_of_rank[rank] = line.step
        if is_new and len(self._steps_of_rank) == self._world_size:
            return min(self._steps_of_rank.values())
        return None

    def row(self, line: StepLine, *, at_s: float) -> StepRow | None:
        """The step's row, once."""
        if line.step <= self._last_row_step:
            return None
        reports = self._reports[line.step] = self._reports.get(line.step, 0) + 1
        if line.loss is None and line.note is None and reports < self._world_size:
            return None
        self._last_row_step = line.step
        self._reports = {s: n for s, n in self._reports.items() if s > line.step}
        row = _row(line, generation=self._generation, at_s=at_s)
        self._account(row)
        return row

    def _account(self, row: StepRow) -> None:
        self.last_step = row.step
        self._step_s.append(row.duration_s)
        self._tokens_per_s.append(row.tokens_per_s)
        if row.loss is not None:
            self.last_loss = row.loss
            if self.first_loss is None:
                self.first_loss = row.loss


class MetricsFile:
    """Appends rows to `metrics.jsonl`; an OSError says that the storage does not take them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def append(self, row: StepRow) -> None:
        """Write a row."""
        content = {
            "step": row.step,
            "generation": row.generation,
            "loss": row.loss,
            "grad_norm": row.grad_norm,
            "learning_rate": row.learning_rate,
            "tokens": row.tokens,
            "tokens_per_s": round(row.tokens_per_s, 3),
            "duration_s": row.duration_s,
            "at_s": round(row.at_s, 6),
        }
        os.write(self._file, json.dumps(content).encode() + b"\n")

    def last_step(self, generation: int) -> int:
        """The last step of a generation that has a row; 0 when none has. A torn row is none."""
        for line in reversed(self._path.read_bytes().split(b"\n")[:-1]):
            row = json.loads(line)
            if row["generation"] == generation:
                return int(row["step"])
        return 0

    def close(self) -> None:
        """Write no more."""
        os.close(self._file)


def _row(line: StepLine, *, generation: int, at_s: float) -> StepRow:
    return StepRow(
        step=line.step,
        generation=generation,
        loss=line.loss,
        grad_norm=line.grad_norm,
        learning_rate=line.learning_rate,
        tokens=line.tokens,
        duration_s=line.duration_s,
        at_s=at_s,
    )
