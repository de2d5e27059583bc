"""A reactor whose time is a `FakeClock`: callbacks come when a test lets time pass."""

import heapq
from collections import deque
from collections.abc import Callable

from tests.fakes.clock import FakeClock


class FakeTimer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class FakeReactor:
    """Timers and the worker of a `Reactor`; it knows no sockets and no processes."""

    def __init__(self, clock: FakeClock) -> None:
        self.is_stopped = False
        self._clock = clock
        self._timers: list[tuple[float, int, FakeTimer]] = []
        self._soon: deque[Callable[[], None]] = deque()
        self._count = 0

    def call_soon(self, callback: Callable[[], None]) -> None:
        self._soon.append(callback)

    def call_after(self, delay_s: float, callback: Callable[[], None]) -> FakeTimer:
        timer = FakeTimer(callback)
        self._count += 1
        heapq.heappush(self._timers, (self._clock.monotonic_s() + delay_s, self._count, timer))
        return timer

    def in_worker(self, work: Callable, done: Callable) -> None:
        self._soon.append(lambda: done(work()))

    def stop(self) -> None:
        self.is_stopped = True

    def settle(self) -> None:
        """Call what is due without letting time pass."""
        while self._soon:
            self._soon.popleft()()

    def advance(self, duration_s: float) -> None:
        """Let time pass, calling each timer at its time."""
        until_s = self._clock.monotonic_s() + duration_s
        self.settle()
        while self._timers and self._timers[0][0] <= until_s:
            at_s, _, timer = heapq.heappop(self._timers)
            self._clock.advance(max(0.0, at_s - self._clock.monotonic_s()))
            if timer.callback is not None:
                timer.callback()
            self.settle()
        self._clock.advance(max(0.0, until_s - self._clock.monotonic_s()))
