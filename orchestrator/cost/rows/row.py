"""A line of a file of measurements: named cells, read with their types."""

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn


class Unreadable(Exception):
    """A row cannot be predicted; the text says why."""


def refuse(reason: str) -> NoReturn:
    """End the reading of a row.

    Raises:
        Unreadable: always, with the reason.
    """
    raise Unreadable(reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Cells by column; empty and absent ones are the same. `assumed` collects what was guessed."""

    cells: Mapping[str, str]
    assumed: list[str] = field(default_factory=list)

    @property
    def id(self) -> str:
        """The row's name."""
        return self.text("id")

    def text(self, column: str) -> str:
        """Return a cell without the blanks around it, empty where there is none."""
        return (self.cells.get(column) or "").strip()

    def number(self, column: str) -> float | None:
        """Return a cell as a number above 0, None where it is empty.

        Raises:
            Unreadable: it is not a finite number above 0.
        """
        text = self.text(column).replace(",", "")
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            refuse(f"{column} '{text}' is not a number")
        if not math.isfinite(value) or value <= 0:
            refuse(f"{column} {text} is not above 0")
        return value

    def whole(self, column: str) -> int | None:
        """Return a cell as a whole number above 0, None where it is empty.

        Raises:
            Unreadable: it is not a whole number above 0.
        """
        value = self.number(column)
        if value is None:
            return None
        if value != int(value):
            refuse(f"{column} {self.text(column)} is not a whole number")
        most = MOST.get(column, MAX_WHOLE)
        if value > most:
            refuse(f"{column} {self.text(column)} is more than {most:,}")
        return int(value)

    def needed(self, column: str) -> int:
        """Return a whole number that must be there.

        Raises:
            Unreadable: the cell is empty or no whole number.
        """
        value = self.whole(column)
        if value is None:
            refuse(f"{column} is missing")
        return value

    def assume(self, text: str) -> None:
        """Note a guess, once."""
        if text not in self.assumed:
            self.assumed.append(text)


MAX_WHOLE = 10**8
MOST = {"layers": 2_000, "gpus": 1_000_000, "moe_experts": 100_000}
"""More than that is a slip of the hand, and would be waited for in vain."""

KNOWN_COLUMNS = (
    *("id", "gpu", "gpus", "gpus_per_node", "interconnect", "model", "params_b", "layers"),
    *("hidden", "ffn_hidden", "heads", "kv_heads", "vocab", "moe_experts", "moe_topk", "moe_ffn"),
    *("seq_len", "global_batch", "micro_batch", "tp", "pp", "vpp", "cp", "ep", "etp", "dp"),
    *("sharding", "sequence_parallel", "recompute", "precision", "schedule", "framework", "year"),
    *("measured_step_time_s", "measured_tokens_per_s_per_gpu", "measured_peak_mem_gib", "notes"),
    *("split_group", "completeness", "confidence", "cuda_graph_impl", "cuda_graph_scope"),
    *("moe_dispatcher", "moe_a2a_overlap", "cpu_offload_layers"),
)
"""Columns that a prediction or a score reads; others may be there and are not read."""


def rows_of(text: str) -> tuple[Row, ...]:
    """Return the rows of a CSV text with a header line."""
    return tuple(Row(cells=cells) for cells in csv.DictReader(io.StringIO(text)))
