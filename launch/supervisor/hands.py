"""What an instruction does to the world; everything that comes of it returns as an event."""

from collections.abc import Callable
from typing import assert_never

from launch.clock import Clock
from launch.supervisor.checkpoints import CheckpointStore, Flaw
from launch.supervisor.events import (
    CheckpointCommitted,
    CheckpointRejected,
    CheckpointTorn,
    CheckpointVerified,
    DeadlinePassed,
    Event,
    StorageFailed,
)
from launch.supervisor.instructions import (
    AskPort,
    AttachAgent,
    CloseRun,
    CommitCheckpoint,
    DeleteCheckpoint,
    Instruction,
    PutAsideCheckpoint,
    Say,
    SetDeadline,
    StartAgent,
    StartGeneration,
    StopGeneration,
    VerifyCheckpoint,
)
from launch.supervisor.manifests import Files
from launch.supervisor.orders import Orders
from launch.supervisor.roster import Roster
from launch.transport.reactor import Reactor, Timer
from launch.wire import ReservePort, StopRanks
from orchestrator.errors import StorageError

_DISMISSAL_LIMIT_S = 10.0
_Outcome = Event | None  # of slow work: an event, or nothing worth one
_OfCheckpoint = CommitCheckpoint | VerifyCheckpoint | PutAsideCheckpoint | DeleteCheckpoint


class Hands:
    """Carries out instructions."""

    def __init__(  # noqa: PLR0913 - where the parts meet
        self,
        *,
        orders: Orders,
        store: CheckpointStore,
        roster: Roster,
        reactor: Reactor,
        clock: Clock,
        post: Callable[[Event], None],
        stated: Callable[[int, int], Files],
    ) -> None:
        self._stated = stated
        self._orders = orders
        self._store = store
        self._roster = roster
        self._reactor = reactor
        self._clock = clock
        self._post = post
        self._deadline: Timer | None = None

    def do(self, instruction: Instruction) -> None:  # noqa: C901 - a table with types
        """Carry out one instruction."""
        match instruction:
            case StartAgent():
                self._roster.start(instruction.agent_id)
            case AttachAgent():
                self._roster.attach(instruction.agent_id)
            case AskPort():
                order = ReservePort(generation=instruction.generation, port=instruction.port)
                self._roster.send(instruction.agent_id, order)
            case StartGeneration():
                self._start_generation(instruction)
            case StopGeneration():
                self._stop_generation(instruction)
            case (
                CommitCheckpoint() | VerifyCheckpoint() | PutAsideCheckpoint() | DeleteCheckpoint()
            ):
                self._in_worker(self._work_on(instruction))
            case SetDeadline():
                self._set_deadline(instruction)
            case Say():
                return  # the controller tells its observer
            case CloseRun():
                self._roster.dismiss(within_s=_DISMISSAL_LIMIT_S, then=self._stop)
            case _:
                assert_never(instruction)

    def _start_generation(self, order: StartGeneration) -> None:
        try:
            self._store.prepare(order.generation)
        except OSError as error:
            self._post(self._storage_failed(error))
            return
        for place in self._orders.places:
            self._roster.send(place.agent_id, self._orders.start(order, place))
        self._in_worker(self._store.empty_trash)

    def _stop_generation(self, order: StopGeneration) -> None:
        self._roster.send_all(
            StopRanks(generation=order.generation, how=order.how, grace_s=order.grace_s)
        )

    def _set_deadline(self, order: SetDeadline) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self._reactor.call_after(
            order.after_s,
            lambda: self._post(
                DeadlinePassed(
                    at_s=self._clock.wall_s(), deadline=order.deadline, serial=order.serial
                )
            ),
        )

    def _work_on(self, order: _OfCheckpoint) -> Callable[[], _Outcome]:
        match order:
            case CommitCheckpoint():
                files = self._stated(order.generation, order.step)
                return lambda: self._commit(order, files)
            case VerifyCheckpoint():
                return lambda: self._verify(order)
            case PutAsideCheckpoint():
                return lambda: self._store.put_aside(order.step, latest=order.latest)
            case DeleteCheckpoint():
                return lambda: self._store.delete(order.step)

    def _verify(self, order: VerifyCheckpoint) -> Event:
        flaw = self._store.flaw_of(order.step)
        at_s, generation, step = self._clock.wall_s(), order.generation, order.step
        if isinstance(flaw, Flaw):
            return CheckpointTorn(at_s=at_s, generation=generation, step=step, reason=flaw.reason)
        return CheckpointVerified(at_s=at_s, generation=generation, step=step)

    def _commit(self, order: CommitCheckpoint, files: Files) -> Event:
        flaw = self._store.commit(order.generation, order.step, files)
        at_s, generation, step = self._clock.wall_s(), order.generation, order.step
        if isinstance(flaw, Flaw):
            return CheckpointRejected(
                at_s=at_s, generation=generation, step=step, reason=flaw.reason
            )
        return CheckpointCommitted(at_s=at_s, generation=generation, step=step)

    def _stop(self) -> None:
        """Stop after the storage work that was given, or old checkpoints would stay for ever."""
        self._reactor.in_worker(lambda: None, lambda _: self._reactor.stop())

    def _in_worker(self, work: Callable[[], _Outcome]) -> None:
        """Do slow storage work; what it comes to, or the storage's refusal, is an event."""

        def guarded() -> _Outcome:
            try:
                return work()
            except (OSError, StorageError) as error:
                return self._storage_failed(error)

        def done(event: _Outcome) -> None:
            if event is not None:
                self._post(event)

        self._reactor.in_worker(guarded, done)

    def _storage_failed(self, error: OSError | StorageError) -> StorageFailed:
        if isinstance(error, StorageError):
            path, reason = error.path, error.problem
        else:
            path = str(error.filename or self._store.directory.path)
            reason = error.strerror or str(error)
        return StorageFailed(at_s=self._clock.wall_s(), path=path, reason=reason)
