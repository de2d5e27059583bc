"""The controller's loop: an event is written, decided upon, and only then acted on.

Instructions are written and synced before any of them is carried out. When the storage refuses
that, the run ends, and what is decided on the way down is done without being written.
"""

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Protocol

from launch.clock import Clock
from launch.rank_lines import StepLine
from launch.request import HangTerms
from launch.supervisor.events import (
    Event,
    RanksHung,
    RanksStepping,
    RunOpened,
    StorageFailed,
)
from launch.supervisor.instructions import Instruction, Say, StartGeneration
from launch.supervisor.journal import Writer
from launch.supervisor.manifests import Manifests
from launch.supervisor.observer import Observer, Silence, StepRow
from launch.supervisor.progress import Progress
from launch.supervisor.run_state import Decision, Phase, State
from launch.supervisor.stalls import Stalls
from launch.supervisor.state import InvalidTransition, handle, is_stale, open_run
from launch.supervisor.translate import event_of
from launch.wire import Beat, Exited, RankLine, ToController


class Doer(Protocol):
    """Who carries out instructions."""

    def do(self, instruction: Instruction) -> None:
        """Carry out one instruction; what comes of it is posted later."""


class Metrics(Protocol):
    """Where the rows of steps go."""

    def append(self, row: StepRow) -> None:
        """Write a row; an OSError says that the storage does not take it."""


class Controller:
    """One reign over a run; `begin` it with a doer, then post what happens."""

    def __init__(  # noqa: PLR0913 - where the parts meet
        self,
        *,
        opened: RunOpened,
        journal: Writer,
        metrics: Metrics,
        clock: Clock,
        observer: Observer,
        confirm_reign: Callable[[], None],
        hang: HangTerms,
        before: State | None = None,
        after_step: int = 0,
        manifests: Manifests | None = None,
    ) -> None:
        self.progress = Progress(world_size=opened.terms.world_size)
        self.manifests = manifests or Manifests()
        self._stalls = Stalls(hang)
        self.state, self._first = open_run(opened, before)
        self._opened = opened
        self._after_step = after_step  # a controller before us has written the rows up to that
        self._journal = journal
        self._metrics = metrics
        self._clock = clock
        self._observer = observer
        self._confirm_reign = confirm_reign
        self._has_storage = True
        self._waiting: deque[Event] = deque()
        self._is_deciding = False

    def begin(self, doer: Doer) -> None:
        """Take the run: start the agents."""
        self._doer = doer
        if self._opened.takes_over is not None:
            self._follow_generation(self.state.generation, after_step=self._after_step)
        self._is_deciding = True
        self._write(lambda: self._journal.happened(self._opened))
        self._adopt((self.state, self._first))
        self._decide_all()

    def post(self, event: Event) -> None:
        """Something happened; decided upon after whatever is being decided now."""
        self._waiting.append(event)
        if not self._is_deciding:
            self._decide_all()

    def heard(self, agent_id: int, record: ToController) -> None:
        """An agent said something."""
        if isinstance(record, Beat):
            self._on_beat(agent_id, record)
            return
        self._follow(record)
        if isinstance(record, RankLine) and isinstance(record.record, StepLine):
            self._on_step(record, record.record)
            return
        event = event_of(record, agent_id=agent_id, at_s=self._clock.wall_s())
        if event is not None:
            self.post(event)

    def _follow_generation(self, generation: int, *, after_step: int = 0) -> None:
        self.progress.begin(generation, after_step=after_step)
        self._stalls.begin(self.state.terms.world_size, at_s=self._clock.monotonic_s())

    def _follow(self, record: ToController) -> None:
        """Keep in mind that a rank made progress, or is gone."""
        if not isinstance(record, RankLine | Exited) or record.generation != self.state.generation:
            return
        if isinstance(record, RankLine):
            self._stalls.said(record.rank, record.record, at_s=self._clock.monotonic_s())
        else:
            self._stalls.ended(record.rank)

    def _on_beat(self, agent_id: int, beat: Beat) -> None:
        stall = self._stalls.beat(agent_id, beat, at_s=self._clock.monotonic_s())
        if stall is None or self.state.phase not in {Phase.STARTING, Phase.RUNNING}:
            return
        self.post(
            RanksHung(
                at_s=self._clock.wall_s(),
                generation=self.state.generation,
                rank=stall.blame.rank,
                stalled_s=round(stall.stalled_s, 3),
                limit_s=round(stall.limit_s, 3),
                phase=stall.phase,
                why=stall.blame.why,
            )
        )

    def _decide_all(self) -> None:
        self._is_deciding = True
        while self._waiting:
            self._decide(self._waiting.popleft())
        self._is_deciding = False

    def _decide(self, event: Event) -> None:
        if self.state.phase is Phase.ENDED:
            return
        if is_stale(self.state, event):
            self._write(lambda: self._journal.came_late(event))
            return
        self._write(lambda: self._journal.happened(event))
        self.manifests.note(event)
        try:
            decision = handle(self.state, event)
        except InvalidTransition as error:
            tail = self._journal.tail()
            raise InvalidTransition(phase=error.phase, kind=error.kind, tail=tail) from None
        self._adopt(decision)

    def _adopt(self, decision: Decision) -> None:
        before = self.state
        self.state, instructions = decision
        if instructions:
            self._write(lambda: self._write_down(instructions))
        self._tell_phase(before)
        for instruction in instructions:
            if isinstance(instruction, Say):
                self._tell(partial(self._observer.on_sentence, instruction.sentence))
            if isinstance(instruction, StartGeneration):
                self._follow_generation(instruction.generation)
            self._doer.do(instruction)

    def _write_down(self, instructions: tuple[Instruction, ...]) -> None:
        self._confirm_reign()
        for instruction in instructions:
            self._journal.decided(instruction)
        self._journal.sync()

    def _tell_phase(self, before: State) -> None:
        if (self.state.phase, self.state.generation) != (before.phase, before.generation):
            self._tell(partial(self._observer.on_phase, self.state.phase, self.state.generation))

    def _on_step(self, said: RankLine, line: StepLine) -> None:
        if said.generation != self.state.generation:
            return
        at_s = self._clock.wall_s()
        common = self.progress.first_common_step(said.rank, line)
        row = self.progress.row(line, at_s=at_s)
        if row is not None:
            self._write(lambda: self._metrics.append(row))
            self._tell(partial(self._observer.on_step, row))
        if common is not None:
            self.post(RanksStepping(at_s=at_s, generation=said.generation, step=common))

    def _tell(self, tell: Callable[[], None]) -> None:
        """Tell the observer; one whose terminal or pipe is gone is told nothing more."""
        try:
            tell()
        except OSError:
            self._observer = Silence()

    def _write(self, write: Callable[[], None]) -> None:
        if not self._has_storage:
            return
        try:
            write()
        except OSError as error:
            self._has_storage = False
            reason = error.strerror or str(error)
            failed = StorageFailed(at_s=self._clock.wall_s(), path="run directory", reason=reason)
            self.post(failed)
