"""Why something is not taken, as data: what a rule prints and a planner reads."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A reason with its numbers and the nearest values that would be taken.

    `possible` says the same in words; it is "" where nothing near would do.
    """

    reason: str
    possible: str = ""
    nearest_num_microbatches: tuple[int, ...] = ()
    nearest_group_size: int | None = None
