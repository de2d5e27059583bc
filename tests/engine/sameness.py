"""One training on one rank, which every layout that starts from its checkpoint must repeat."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.engine.warm_ranks import WarmRanks, WarmRun

Changes = Mapping[str, Mapping[str, Any]]

FIRST_STEP = 1
HALF_WAY = 16
LAST_STEP = 31
REL = 1e-5  # of a loss, over thirty FP32 steps

# Thirty steps learn, and yet rounding does not grow into a difference: Adam divides by a gradient's
# size, and where that is below epsilon it is rounding.
RATE = {"learning_rate": 1e-3, "min_learning_rate": 1e-4, "epsilon": 1e-6}
# Two microbatches of two sequences; a pipeline has four of one, four replicas have one of one.
BATCH = {"micro_batch_size": 2, "global_batch_size": 4, "steps": LAST_STEP}


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Thirty steps on one rank, from a checkpoint that it made itself at step 1."""

    warm: WarmRanks
    make: Callable[..., dict[str, Any]]
    start: Path
    run: WarmRun
    first_loss: float

    @classmethod
    def of(cls, warm: WarmRanks, make: Callable[..., dict[str, Any]], *, before: str = "") -> Self:
        first = warm.run(config(make, {"training": {"steps": FIRST_STEP}}), staged=True)
        start = first.checkpoint(FIRST_STEP)
        run = warm.run(
            config(make, {"checkpoint": {"interval_steps": HALF_WAY}}),
            resume_from=start,
            staged=True,
            before=before,
        )
        loss = first.losses()[FIRST_STEP]
        return cls(warm=warm, make=make, start=start, run=run, first_loss=loss)

    def repeated(self, ranks: int, changes: Changes, *, before: str = "") -> WarmRun:
        """The same thirty steps in another layout; its microbatches may be smaller."""
        made = config(self.make, changes)
        parallel = made["parallel"]
        dp = ranks // (parallel["tp"] * parallel["cp"] * parallel["pp"])
        if dp == 4 or parallel["pp"] > 1:
            made["training"]["micro_batch_size"] = 1
        return self.warm.run(made, ranks=ranks, resume_from=self.start, before=before)

    def losses(self, after: int = FIRST_STEP) -> dict[int, float]:
        return {step: loss for step, loss in self.run.losses().items() if step > after}


def config(make: Callable[..., dict[str, Any]], changes: Changes) -> dict[str, Any]:
    """A configuration of the reference's batch and length, changed."""
    training = {"training": {**BATCH, **changes.get("training", {})}}
    made = make(**{**changes, **training})
    made["training"]["optimizer"] |= RATE
    return made


def off(run: WarmRun, losses: Mapping[int, float], rel: float = REL) -> dict[int, float]:
    """The steps whose loss differs by more than that part of it, and by how much.

    A step that is missing, or whose loss is not a number, differs wholly.
    """
    own = run.losses()
    by = {step: abs((own.get(step) or 0.0) - loss) / loss for step, loss in losses.items()}
    return {step: part for step, part in by.items() if part > rel}
