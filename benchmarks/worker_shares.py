"""CPU-seconds of a process, shared out between two kinds of code: `own` code and the `engine`'s.

Functions are wrapped; each second goes to the innermost wrapped function that runs. What a wrapper
costs itself (a microsecond) is mostly counted as `own`.
"""

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

OWN, ENGINE = "own", "engine"
Function = Callable[..., Any]


@dataclass(slots=True)
class Shares:
    """How long each kind of code has run since `begin`."""

    seconds: dict[str, float] = field(default_factory=lambda: {OWN: 0.0, ENGINE: 0.0})
    running: list[str] = field(default_factory=list)
    since_s: float = 0.0

    def begin(self) -> None:
        """Count from 0."""
        self.seconds = {OWN: 0.0, ENGINE: 0.0}

    def of(self, kind: str, function: Function) -> Function:
        """The function, whose time is of that kind."""

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - any function's
            self._turn(kind)
            try:
                return function(*args, **kwargs)
            finally:
                self._turn(None)

        return timed

    def wrap(self, kind: str, owner: object, *names: str) -> None:
        """Replace functions of an object by what times them."""
        for name in names:
            setattr(owner, name, self.of(kind, getattr(owner, name)))

    def _turn(self, kind: str | None) -> None:
        now_s = time.process_time()
        if self.running:
            self.seconds[self.running[-1]] += now_s - self.since_s
        if kind is None:
            self.running.pop()
        else:
            self.running.append(kind)
        self.since_s = now_s


def share_engine(shares: Shares, engine: Any) -> None:  # noqa: ANN401 - untyped engine
    """Time what both loops have the engine do."""
    shares.wrap(ENGINE, engine.optimizer, "step", "zero_grad")
    shares.wrap(ENGINE, engine.schedule, "step")
    for chunk in engine.model.chunks:
        shares.wrap(ENGINE, chunk, "zero_grad_buffer", "forward")


def share_collectives(shares: Shares) -> None:
    """Time collectives as the engine's; to be called before they are marked."""
    from torch.distributed import distributed_c10d

    from launch.workers import collectives

    for name in collectives.COLLECTIVES:
        collectives._replace(name, shares.of(ENGINE, getattr(distributed_c10d, name)))


def share_marks(shares: Shares) -> None:
    """Time what marks a collective as our own; to be called after they are marked."""
    from torch.distributed import distributed_c10d

    from launch.workers import collectives

    for name in collectives.COLLECTIVES:
        collectives._replace(name, shares.of(OWN, getattr(distributed_c10d, name)))
