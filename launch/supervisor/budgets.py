"""How often a run may fail: each class of failure has a budget, and time forgives.

A failure fills the account of its class by one, and time empties it, by one every
`forgiven_after_s`. A class whose account would overflow ends the run, however much progress it
makes in between: a host that dies every ten minutes is no bad luck. Progress is counted elsewhere
(`restarts_spent`): restarts without a new checkpoint end a run of whatever class they are.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from launch.codec import Record


class Failure(StrEnum):
    """What kind of thing went wrong."""

    PROGRAM = "program"  # a rank ended by itself
    KILLED = "killed"  # a signal ended a rank
    HANG = "hang"
    HOST = "host"  # a host or its agent went
    CHECKPOINT = "checkpoint"  # a checkpoint turned out not to be whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget(Record):
    """At most so many failures of a class at once, one of which is forgiven ever so often."""

    failure: Failure
    most: int
    forgiven_after_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """How full a class is, as of a time."""

    failure: Failure
    level: float
    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """A failure that was put down; `overdrawn` says why it is one too many."""

    accounts: tuple[Account, ...]
    count: str
    overdrawn: str | None


def charge(
    accounts: Sequence[Account], budgets: Sequence[Budget], failure: Failure, *, at_s: float
) -> Charge:
    """Put a failure down; a class without a budget has no bound."""
    budget = next((b for b in budgets if b.failure is failure), None)
    if budget is None:
        return Charge(accounts=tuple(accounts), count="", overdrawn=None)
    level = 1 + _level(accounts, budget, at_s=at_s)
    others = (account for account in accounts if account.failure is not failure)
    mine = Account(failure=failure, level=level, at_s=at_s)
    count = f"{failure} failure {math.ceil(level)} of {budget.most}"
    rule = (
        f"more than {budget.most} failures of the class '{failure}', "
        f"of which one is forgiven every {budget.forgiven_after_s:g} s"
    )
    return Charge(
        accounts=(*others, mine),
        count=count,
        overdrawn=rule if level > budget.most else None,
    )


def _level(accounts: Sequence[Account], budget: Budget, *, at_s: float) -> float:
    """What is left of earlier failures; a clock that is set back forgives nothing."""
    account = next((a for a in accounts if a.failure is budget.failure), None)
    if account is None:
        return 0.0
    forgiven = max(0.0, at_s - account.at_s) / budget.forgiven_after_s
    return max(0.0, account.level - forgiven)
