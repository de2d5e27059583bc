"""How long the stages of a pipeline take: what a simulation is fed with."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from orchestrator.errors import UsageError
from orchestrator.schedules.codes import (
    BACKWARD,
    FORWARD,
    INPUT_GRAD,
    NUM_KINDS,
    WEIGHT_GRAD,
    Codes,
    Numbering,
    backwards_of,
    firsts_of,
)

MAX_NS = 10**12
"""Longest time of one action: a thousand seconds. `program_of` watches the sums."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTimes:
    """How long each stage takes for one microbatch, and how long a tensor travels (ns).

    `weight_grad_ns` is the part of a backward that nobody waits for; absent, half of it. Where
    a backward is split its parts take what the whole would. An overlapped pair ends
    `overlap_saves_ns` sooner than its parts one after the other, but never before the longer.
    """

    forward_ns: tuple[int, ...]
    backward_ns: tuple[int, ...]
    weight_grad_ns: tuple[int, ...] | None = None
    latency_ns: int = 0
    overlap_saves_ns: int = 0
    longest_ns: int = MAX_NS
    """Longest time that is taken for one: more where the times are multiples of real ones."""

    def __post_init__(self) -> None:
        for name in ("forward_ns", "backward_ns", "weight_grad_ns"):
            row = getattr(self, name)
            if row is None:
                continue
            if len(row) != len(self.forward_ns):
                raise UsageError(
                    problem=f"{name} has {len(row)} stages, forward_ns {len(self.forward_ns)}"
                )
            _expect_times(name, row, longest_ns=self.longest_ns)
        _expect_times("latency_ns", (self.latency_ns,), longest_ns=self.longest_ns)
        _expect_times("overlap_saves_ns", (self.overlap_saves_ns,), longest_ns=self.longest_ns)
        for whole, part in zip(self.backward_ns, self.weight_grads_ns, strict=True):
            if part > whole:
                raise UsageError(
                    problem=f"weight_grad_ns {part} is more than the whole backward, {whole}"
                )

    @classmethod
    def uniform(
        cls,
        *,
        num_stages: int,
        forward_ns: int,
        backward_ns: int,
        weight_grad_ns: int | None = None,
        latency_ns: int = 0,
    ) -> Self:
        """Return the times of stages that are all equal."""
        return cls(
            forward_ns=(forward_ns,) * num_stages,
            backward_ns=(backward_ns,) * num_stages,
            weight_grad_ns=None if weight_grad_ns is None else (weight_grad_ns,) * num_stages,
            latency_ns=latency_ns,
        )

    @property
    def num_stages(self) -> int:
        """Virtual pipeline stages."""
        return len(self.forward_ns)

    @property
    def weight_grads_ns(self) -> tuple[int, ...]:
        """Weight gradients of each stage, said or half the backward."""
        return self.weight_grad_ns or tuple(whole // 2 for whole in self.backward_ns)

    def durations(self, codes: Codes, numbering: Numbering) -> Codes:
        """Return how long each code of an order runs, in nanoseconds."""
        if numbering.num_stages != self.num_stages:
            raise UsageError(
                problem=f"times of {self.num_stages} stages for a schedule of "
                f"{numbering.num_stages}"
            )
        table, per_stage = self._table(), NUM_KINDS * numbering.num_microbatches
        taken = _looked_up(table, firsts_of(codes), per_stage=per_stage)
        backwards = backwards_of(codes)
        pairs = np.flatnonzero(backwards >= 0)
        if len(pairs):
            other = _looked_up(table, backwards[pairs], per_stage=per_stage)
            longer = np.maximum(taken[pairs], other)
            taken[pairs] = np.maximum(taken[pairs] + other - self.overlap_saves_ns, longer)
        return taken

    def _table(self) -> Codes:
        """Return the time of [stage, kind]."""
        table = np.empty((self.num_stages, NUM_KINDS), dtype=np.int64)
        table[:, FORWARD] = self.forward_ns
        table[:, BACKWARD] = self.backward_ns
        table[:, WEIGHT_GRAD] = self.weight_grads_ns
        table[:, INPUT_GRAD] = table[:, BACKWARD] - table[:, WEIGHT_GRAD]
        return table


def _looked_up(table: Codes, codes: Codes, *, per_stage: int) -> Codes:
    places = codes // per_stage * NUM_KINDS + codes % NUM_KINDS
    taken: Codes = table.ravel()[places]
    return taken


def _expect_times(name: str, row: tuple[int, ...], *, longest_ns: int) -> None:
    for value in row:
        if not 0 <= value <= longest_ns:
            raise UsageError(
                problem=f"{name}: {value} is not a time",
                instead=f"nanoseconds from 0 to {longest_ns}",
            )
