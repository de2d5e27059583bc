"""The ranks of a host, without processes: `start` and `stop` only change numbers."""

from launch.wire import RankBeat, StartRanks, StopRanks, Warm


class FakeRanks:
    def __init__(self) -> None:
        self.generation = 0
        self.running: tuple[int, ...] = ()
        self.stops: list[StopRanks] = []
        self.warmed: list[Warm] = []
        self.is_killed = False

    def warm(self, order: Warm) -> None:
        self.warmed.append(order)

    def start(self, order: StartRanks) -> None:
        self.generation = order.generation
        self.running = tuple(slot.rank for slot in order.ranks)

    def stop(self, order: StopRanks) -> None:
        self.stops.append(order)

    def kill(self) -> None:
        self.is_killed = True
        self.running = ()

    def beats(self, *, monotonic_s: float) -> tuple[RankBeat, ...]:
        return tuple(
            RankBeat(rank=rank, pid=100 + rank, seq=1, step=2, mark_age_s=monotonic_s, label="go")
            for rank in self.running
        )
