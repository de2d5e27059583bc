"""The time as something that is handed in, so that its users can be tested without waiting."""

import time
from typing import Protocol


class Clock(Protocol):
    """What the time is; only `SystemClock` asks the machine."""

    def monotonic_s(self) -> float:
        """Seconds of CLOCK_MONOTONIC: for durations on one host."""

    def wall_s(self) -> float:
        """Seconds since 1970: for what people and other hosts read."""


class SystemClock:
    """The machine's clock; its wall time never jumps.

    The wall time is read once and carried on by the monotonic clock, so that a correction by NTP in
    the middle of a run cannot make a duration between two journal entries negative.
    """

    def __init__(self) -> None:
        self._wall_at_zero_s = time.time() - time.monotonic()  # noqa: TID251 - the one reader

    def monotonic_s(self) -> float:
        """Seconds of CLOCK_MONOTONIC."""
        return time.monotonic()

    def wall_s(self) -> float:
        """Seconds since 1970."""
        return self._wall_at_zero_s + time.monotonic()


class Pause:
    """A wait of a program that only looks at something now and then."""

    def wait(self, duration_s: float) -> None:
        """Do nothing for a while; Ctrl-C ends it."""
        time.sleep(duration_s)  # noqa: TID251 - the one sleeper
