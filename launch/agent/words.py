"""What an agent says, without ever waiting for whoever reads it.

Its reader may be an ssh that is stuck, and an agent that waited for it would not fence itself.
"""

import os
import select

_ROOM_BYTES = 4096  # PIPE_BUF: what is ready to be written to takes that much at once


class Words:
    """Sentences on a descriptor; what finds no room is lost and counted."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._num_lost = 0

    def say(self, sentence: str) -> None:
        """Say it now or not at all."""
        if self._num_lost:
            lost = f"{self._num_lost} sentences that nobody read are lost; {sentence}"
            if self._put(lost):
                self._num_lost = 0
                return
        elif self._put(sentence):
            return
        self._num_lost += 1

    def _put(self, sentence: str) -> bool:
        line = f"agent: {sentence}".encode(errors="backslashreplace")[: _ROOM_BYTES - 1] + b"\n"
        try:
            if not select.select([], [self._descriptor], [], 0)[1]:
                return False
            os.write(self._descriptor, line)
        except OSError:  # a full disk must not end the ranks
            return False
        return True
