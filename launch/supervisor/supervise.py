"""Supervise a run from its agents' start to its verdict: where the parts meet."""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate

from launch.clock import Clock, SystemClock
from launch.request import LaunchRequest
from launch.run_directory import Reign, RunDirectory
from launch.supervisor.budgets import Budget, Failure
from launch.supervisor.checkpoints import CheckpointStore
from launch.supervisor.desk import RunDesk
from launch.supervisor.events import AgentPlace, InterruptAsked, RunOpened, RunTerms
from launch.supervisor.hands import Hands
from launch.supervisor.instructions import AskPort
from launch.supervisor.journal import Decided, Happened, History, Journal, replay
from launch.supervisor.loop import Controller
from launch.supervisor.manifests import Manifests
from launch.supervisor.observer import Observer
from launch.supervisor.orders import Orders
from launch.supervisor.outcome import RunOutcome
from launch.supervisor.progress import MetricsFile
from launch.supervisor.reception import Reception
from launch.supervisor.roster import AgentCall, AgentStarter, Roster
from launch.supervisor.run_state import State
from launch.supervisor.takeover import TAKEN_OVER
from launch.supervisor.verdict import Verdict
from launch.transport.link import Address, can_listen, listen
from launch.transport.reactor import Reactor
from launch.wire import Welcome
from orchestrator.errors import HostError, StorageError

_STOP_TIMEOUT_S = 30.0  # a killed process that is still there then is stuck in the kernel
_ANY_PORT = 0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def supervise(
    request: LaunchRequest,
    *,
    directory: RunDirectory,
    starter: AgentStarter,
    observer: Observer,
    clock: Clock | None = None,
) -> RunOutcome:
    """Run the request's ranks to their last step, through faults, and say what came of it.

    The bundle is in the run directory already. SIGINT and SIGTERM belong to the run meanwhile.

    Raises:
        HostError: the controller's port is taken, or another controller took the run.
        StorageError: the run directory cannot be written at the start, or its journal is damaged.
    """
    with _files(directory) as files:
        reign = _Reign(
            request=request,
            directory=directory,
            clock=clock or SystemClock(),
            reactor=Reactor(),
            epoch=directory.take_epoch(),
        )
        before = reign.before(files.journal.before)
        controller = reign.controller(files, observer, before)
        roster = reign.roster(starter, controller)
        try:
            orders = reign.orders()
            reign.listen(roster, controller, orders, same_door=before is not None)
            reign.obey_signals(controller)
            controller.begin(reign.hands(controller, roster, orders))
            started_s = reign.clock.monotonic_s()
            reign.reactor.run()
        finally:
            if not directory.is_superseded(reign.epoch):  # else they are another's
                roster.kill_all()
            reign.reactor.close()
        return reign.outcome(controller, wall_s=reign.clock.monotonic_s() - started_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Files:
    """What a reign writes all the time."""

    journal: Journal
    metrics: MetricsFile


@contextmanager
def _files(directory: RunDirectory) -> Iterator[_Files]:
    try:
        journal = Journal(directory.journal)
        metrics = MetricsFile(directory.metrics)
    except OSError as error:
        problem = error.strerror or str(error)
        raise StorageError(path=str(directory.path), problem=problem) from None
    try:
        yield _Files(journal=journal, metrics=metrics)
    finally:
        directory.forget_secret()
        journal.close()
        metrics.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reign:
    """What the parts of one reign share, and how each is made of it."""

    request: LaunchRequest
    directory: RunDirectory
    clock: Clock
    reactor: Reactor
    epoch: int

    @property
    def places(self) -> tuple[AgentPlace, ...]:
        """The agents, one a host, with their ranks numbered host by host."""
        hosts = self.request.hosts
        first_ranks = accumulate((host.slots for host in hosts), initial=0)
        return tuple(
            AgentPlace(
                agent_id=i,
                address=host.address,
                first_rank=first,
                slots=host.slots,
                host=host.name,
            )
            for i, (host, first) in enumerate(zip(hosts, first_ranks, strict=False))
        )

    def before(self, history: History) -> State | None:
        """How a dead controller left the run, when its agents can find us; None to begin anew.

        They dial where it listened, with the secret it had, so we must be able to be there.
        """
        try:
            state, reign = replay(history.entries), self.directory.reign()
        except StorageError:
            return None
        if state.phase not in TAKEN_OVER or state.terms != self._terms() or reign is None:
            return None
        is_same_host = reign.address == self.request.controller_host
        door = Address(host=reign.address, port=reign.port)
        if not is_same_host or self.directory.read_secret() is None or not can_listen(door):
            return None
        return state

    def controller(self, files: _Files, observer: Observer, before: State | None) -> Controller:
        """The one who decides."""
        opened = RunOpened(
            at_s=self.clock.wall_s(),
            epoch=self.epoch,
            terms=self._terms(),
            generation=_last_generation(files.journal.before),
            checkpoints=self.directory.committed_steps(),
            run_name=self.request.run_name,
            log_folder=self.request.ranks.log_folder,
            takes_over=None if before is None else before.generation,
        )
        return Controller(
            opened=opened,
            journal=files.journal,
            metrics=files.metrics,
            clock=self.clock,
            observer=observer,
            confirm_reign=self._confirm,
            hang=self.request.supervision.hang,
            before=before,
            after_step=0 if before is None else files.metrics.last_step(before.generation),
            manifests=_manifests(files.journal.before),
        )

    def roster(self, starter: AgentStarter, controller: Controller) -> Roster:
        """The one who knows the agents."""
        rules = self.request.supervision
        return Roster(
            starter=starter,
            welcome=Welcome(
                epoch=self.epoch, beat_interval_s=rules.beat_interval_s, lease_s=rules.lease_s
            ),
            reactor=self.reactor,
            clock=self.clock,
            log=self.directory.controller_log,
            owner=controller,
        )

    def orders(self) -> Orders:
        """What agents are told."""
        return Orders(request=self.request, places=self.places, directory=self.directory)

    def hands(self, controller: Controller, roster: Roster, orders: Orders) -> Hands:
        """The one who acts."""
        return Hands(
            orders=orders,
            store=CheckpointStore(directory=self.directory, required=self.request.checkpoint_files),
            roster=roster,
            reactor=self.reactor,
            clock=self.clock,
            post=controller.post,
            stated=controller.manifests.of,
        )

    def listen(
        self, roster: Roster, controller: Controller, orders: Orders, *, same_door: bool
    ) -> None:
        """Open the controller's port, and tell the roster where its agents shall dial.

        Through the `same_door`, with the same secret, come the agents of a dead controller.
        """
        desk = RunDesk(controller=controller, orders=orders, epoch=self.epoch, clock=self.clock)
        reception = Reception(roster=roster, desk=desk)
        host, port = self.request.controller_host, self.request.controller_port
        reign = self.directory.reign() if same_door else None
        secret = self.directory.read_secret() if same_door else None
        port = port if reign is None else reign.port
        secret = secret or self.directory.make_secret()
        try:
            address = Address(host=host, port=port or _ANY_PORT)
            port = listen(self.reactor, address=address, secret=secret, owner=reception)
        except OSError as error:
            problem = f"controller port {port}: {os.strerror(error.errno or 0)}"
            raise HostError(host=host, problem=problem, instead="choose another port") from None
        reached = Address(host=host, port=port)
        calls = (self._call(place, reached) for place in self.places)
        roster.expect(calls, warm=orders.warm())
        self.directory.announce(
            Reign(
                epoch=self.epoch,
                host=socket.gethostname(),
                pid=os.getpid(),
                address=reached.host,
                port=reached.port,
            )
        )

    def obey_signals(self, controller: Controller) -> None:
        """Signals are events like any other; but `nohup` ignores one, and that is inherited."""
        for number in _SIGNALS:
            if number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue
            self.reactor.on_signal(number, self._interrupter(controller, number.name))

    def outcome(self, controller: Controller, *, wall_s: float) -> RunOutcome:
        """What the reign came to."""
        state, progress = controller.state, controller.progress
        return RunOutcome(
            verdict=state.verdict or Verdict.FAILED,
            reason=state.reason,
            engine=self.request.engine,
            run_directory=str(self.directory.path),
            tail=state.tail,
            rest=self._rest(state),
            last_step=progress.last_step,
            first_loss=progress.first_loss,
            last_loss=progress.last_loss,
            generations=state.generation,
            restarts=state.restarts,
            median_step_s=progress.median_step_s,
            median_tokens_per_s=progress.median_tokens_per_s,
            committed_steps=state.committed,
            wall_s=wall_s,
        )

    def _rest(self, state: State) -> str:
        """Where the whole log of the guilty rank is; of all ranks when nobody is to blame."""
        place = None if state.guilty is None else self.orders().place_of(state.guilty)
        if state.guilty is None or place is None:
            return str(self.directory.logs)
        host = self.request.hosts[place.agent_id].name
        return f"{host}:{self.orders().rank_log(state.generation, state.guilty)}"

    def _terms(self) -> RunTerms:
        rules = self.request.supervision
        return RunTerms(
            agents=self.places,
            last_step=self.request.last_step,
            max_restarts=rules.max_restarts,
            keep_checkpoints=rules.keep_checkpoints,
            join_timeout_s=rules.join_timeout_s,
            save_grace_s=rules.stop_grace_s,
            stop_timeout_s=_STOP_TIMEOUT_S,
            rendezvous_port=self.request.rendezvous_port,
            budgets=tuple(
                Budget(
                    failure=Failure(name),
                    most=most,
                    forgiven_after_s=rules.budgets.forgiven_after_s,
                )
                for name, most in rules.budgets.by_class.items()
            ),
        )

    def _call(self, place: AgentPlace, controller: Address) -> AgentCall:
        return AgentCall(
            place=place,
            controller=controller,
            secret_file=self.directory.secret,
            run_directory=self.directory.path,
            archive=self.directory.agent_archive,
            log=self.directory.agent_log(place.agent_id),
        )

    def _interrupter(self, controller: Controller, name: str) -> Callable[[], None]:
        return lambda: controller.post(InterruptAsked(at_s=self.clock.wall_s(), signal=name))

    def _confirm(self) -> None:
        if self.directory.is_superseded(self.epoch):
            problem = f"epoch {self.epoch + 1} took over {self.directory.path}"
            raise HostError(host=socket.gethostname(), problem=problem)


def _manifests(before: History) -> Manifests:
    manifests = Manifests()
    for entry in before.entries:
        if isinstance(entry, Happened) and not entry.is_stale:
            manifests.note(entry.event)
    return manifests


def _last_generation(before: History) -> int:
    asked = (
        entry.instruction.generation
        for entry in before.entries
        if isinstance(entry, Decided) and isinstance(entry.instruction, AskPort)
    )
    return max(asked, default=0)
