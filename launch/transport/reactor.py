"""One thread, one queue: callbacks for sockets, pipes, children, signals and timers.

The agent and the controller are event handlers; everything that happens to them arrives here as a
call, one at a time, so neither needs a lock. An exception in a callback is a bug of ours: it ends
`run` instead of being logged and forgotten.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from launch.transport.processes import ExitStatus, reap

T = TypeVar("T")
Callback = Callable[[], None]
_READ_BYTES = 1 << 16


class Timer(Protocol):
    """A callback that waits for its time."""

    def cancel(self) -> None:
        """Never call it."""


class Reactor:
    """The event loop of a program: hang callbacks on it, `run` it, `close` it."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(self._on_bug)
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="llmorch-storage")
        self._children: dict[int, Callable[[ExitStatus], None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closers: list[Callback] = []
        self._bug: BaseException | None = None
        self._is_closing = False

    def run(self) -> None:
        """Call callbacks until `stop`; raises what a callback raised."""
        self.loop.run_forever()
        if self._bug is not None:
            raise self._bug

    def stop(self) -> None:
        """End `run` after the callbacks that are due now; nothing is left to end while closing."""
        if not self._is_closing:
            self.loop.stop()

    def close(self) -> None:
        """Wait for the worker, cut what is open, and give back the signals."""
        self._is_closing = True
        self._worker.shutdown(wait=True, cancel_futures=True)
        self.loop.run_until_complete(self._cut())
        self.loop.close()

    def at_close(self, closer: Callback) -> None:
        """Call when the reactor is closed."""
        self._closers.append(closer)

    def call_soon(self, callback: Callback) -> None:
        """Call after the callbacks that wait already."""
        self.loop.call_soon(callback)

    def call_after(self, delay_s: float, callback: Callback) -> Timer:
        """Call once, `delay_s` from now."""
        return self.loop.call_later(delay_s, callback)

    def on_signal(self, number: signal.Signals, callback: Callback) -> None:
        """Call at each arrival of a signal instead of what it did before."""
        self.loop.add_signal_handler(number, callback)

    def on_exit(self, pid: int, callback: Callable[[ExitStatus], None]) -> None:
        """Call once the child is gone and reaped.

        SIGCHLD merely wakes us; only the children named here are waited for, so nobody else's exit
        status is taken away. (A pidfd would do without the signal; kernels of 2018 lack it.)
        """
        if not self._children:
            self.loop.add_signal_handler(signal.SIGCHLD, self._reap_children)
        self._children[pid] = callback
        self.call_soon(self._reap_children)  # it may have ended before we watched

    def on_readable(self, descriptor: int, callback: Callable[[bytes], None]) -> None:
        """Call with each chunk that a non-blocking descriptor has; the last chunk is empty."""

        def ready() -> None:
            data = read_available(descriptor)
            if data is None:
                return
            if not data:
                self.forget(descriptor)
            callback(data)

        self.loop.add_reader(descriptor, ready)

    def forget(self, descriptor: int) -> None:
        """Stop watching a descriptor; nothing happens when it is not watched."""
        self.loop.remove_reader(descriptor)

    def in_worker(self, work: Callable[[], T], done: Callable[[T], None]) -> None:
        """Do slow work (storage) in the one worker thread, then call `done` with its result here.

        Works are done in the order given. What `work` raises is a bug, as in any callback.
        """
        future = self.loop.run_in_executor(self._worker, work)
        future.add_done_callback(lambda finished: done(finished.result()))

    def spawn(self, work: Coroutine[None, None, None]) -> None:
        """Run a coroutine of this package beside the callbacks."""
        task = self.loop.create_task(work)
        self._tasks.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._task_ended)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.result()

    async def _cut(self) -> None:
        for closer in self._closers:
            closer()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # connections close their sockets in the loop's next turn

    def _reap_children(self) -> None:
        for pid in sorted(self._children):
            status = reap(pid)
            if status is not None:
                self._children.pop(pid)(status)

    def _on_bug(self, loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        error = context.get("exception")
        is_ours = "handle" in context or "future" in context or "task" in context
        if isinstance(error, OSError) and not is_ours:
            return  # asyncio's own trouble with a socket; whoever owns the connection is told
        if self._bug is None:
            self._bug = error if isinstance(error, BaseException) else BugInLoopError(context)
        loop.stop()


class BugInLoopError(Exception):
    """The event loop reported trouble without an exception."""

    def __init__(self, context: dict[str, object]) -> None:
        super().__init__(str(context.get("message")))


def read_available(descriptor: int) -> bytes | None:
    """What a non-blocking descriptor has: some bytes, b"" at its end, None when it must wait."""
    try:
        return os.read(descriptor, _READ_BYTES)
    except BlockingIOError:
        return None
