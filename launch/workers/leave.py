"""The request to save and leave: SIGTERM, kept until the next step boundary."""

import signal


class LeaveRequest:
    """Remembers that SIGTERM came; a second one changes nothing.

    The handler only sets a flag. A rank may not act on it alone: the others would wait for it in
    their next collective, so the ranks first agree at a step boundary.
    """

    def __init__(self) -> None:
        self._requested = False

    @property
    def requested(self) -> bool:
        """Whether this rank was asked to leave."""
        return self._requested

    def listen(self) -> None:
        """Take SIGTERM from now on."""
        signal.signal(signal.SIGTERM, self._note)

    def _note(self, signum: int, frame: object) -> None:  # noqa: ARG002 - a handler's signature
        self._requested = True
