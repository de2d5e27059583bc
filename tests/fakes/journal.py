"""A journal in memory, whose storage can be made to fail."""

import errno
import os

from launch.supervisor.events import Event, RunOpened
from launch.supervisor.instructions import Instruction
from launch.supervisor.journal import Decided, Entry, Happened


class FakeJournal:
    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.synced = 0
        self.is_full = False

    def happened(self, event: RunOpened | Event) -> None:
        self._check_space()
        self.entries.append(Happened(seq=len(self.entries) + 1, event=event, is_stale=False))

    def came_late(self, event: Event) -> None:
        self._check_space()
        self.entries.append(Happened(seq=len(self.entries) + 1, event=event, is_stale=True))

    def decided(self, instruction: Instruction) -> None:
        self._check_space()
        self.entries.append(Decided(seq=len(self.entries) + 1, instruction=instruction))

    def sync(self) -> None:
        self._check_space()
        self.synced = len(self.entries)

    def tail(self) -> tuple[str, ...]:
        return tuple(str(entry) for entry in self.entries[-3:])

    def _check_space(self) -> None:
        if self.is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
