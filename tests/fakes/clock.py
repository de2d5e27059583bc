"""A clock that stands still until it is told to go on."""


class FakeClock:
    def __init__(self, *, wall_s: float = 1_000.0) -> None:
        self._monotonic_s = 0.0
        self._wall_s = wall_s

    def monotonic_s(self) -> float:
        return self._monotonic_s

    def wall_s(self) -> float:
        return self._wall_s + self._monotonic_s

    def advance(self, duration_s: float) -> None:
        self._monotonic_s += duration_s
