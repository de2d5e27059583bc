"""One end of a proven connection, without a connection."""

from launch.codec import Line
from launch.transport.link import LinkOwner


class FakeLink:
    """Keeps what is sent; `close` tells the owner, as a real one does a little later."""

    def __init__(self, owner: LinkOwner) -> None:
        self.sent: list[Line] = []
        self.closed_because: str | None = None
        self._owner = owner

    def send(self, record: Line) -> None:
        if self.closed_because is None:
            self.sent.append(record)

    def close(self, reason: str) -> None:
        if self.closed_because is None:
            self.closed_because = reason
            self._owner.lost(self, reason)

    def kinds(self) -> list[str]:
        return [record.KIND for record in self.sent]
