"""Start a run on this machine: one agent, a child of the controller, runs every rank."""

import os
import shlex
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from launch.launchers.bundles import place_bundle
from launch.launchers.contract import Launcher
from launch.launchers.terms import rank_terms_of, supervision_of, warm_of
from launch.remote.program import AGENT_PROCESS
from launch.request import HostSlots, LaunchRequest
from launch.run_directory import RunDirectory
from launch.supervisor.observer import Observer
from launch.supervisor.outcome import RunOutcome
from launch.supervisor.roster import AgentCall
from launch.supervisor.supervise import supervise
from launch.transport.processes import (
    ProcessOrder,
    StartError,
    process_state,
    processes_with,
    run_dependent,
    signal_process,
    start_independent,
)
from launch.transport.reactor import Reactor
from orchestrator.errors import ExitCode, HostError, StorageError
from orchestrator.records.bundle import (
    BUNDLE_PLACEHOLDER,
    SCRIPTS_PLACEHOLDER,
    EngineBundle,
)
from orchestrator.records.run import ResolvedRun

_LOOPBACK = "127.0.0.1"
_LOOK_S = 0.1


@dataclass(frozen=True, slots=True)
class LocalLauncher:
    """Runs every rank on this machine."""

    name: str = "local"

    def prepare(self, bundle: EngineBundle, run: ResolvedRun) -> LaunchRequest:
        """What `submit` would take; refuses a run of several hosts."""
        if run.machine.hosts > 1:
            raise HostError(
                host=socket.gethostname(),
                problem=f"the run needs {run.machine.hosts} hosts, the local launcher has this one",
                instead="set cluster.hosts to 1, or launch.via to a launcher of several hosts",
            )
        spec = run.spec
        return LaunchRequest(
            run_name=run.name,
            engine=bundle.engine,
            argv=_on_this_machine(bundle.argv),
            prepare=tuple(_on_this_machine(command) for command in bundle.prepare),
            warm=_on_this_machine(warm_of(bundle, run)),
            env=bundle.env,
            files=bundle.files,
            hosts=(
                HostSlots(name=socket.gethostname(), address=_LOOPBACK, slots=bundle.world_size),
            ),
            last_step=bundle.last_step,
            controller_host=_LOOPBACK,
            controller_port=spec.launch.controller_port,
            rendezvous_port=spec.launch.rendezvous_port,
            supervision=supervision_of(spec),
            ranks=rank_terms_of(spec),
        )

    def submit(
        self, request: LaunchRequest, directory: RunDirectory, observer: Observer
    ) -> RunOutcome:
        """Start the run and stay with it to its verdict."""
        place_bundle(request, directory)
        bundle = str(directory.bundle)
        for number, words in enumerate(request.prepare):
            command = tuple(word.replace(BUNDLE_PLACEHOLDER, bundle) for word in words)
            observer.on_sentence(f"first: {shlex.join(command)}")
            _run_first(command, log=directory.prepare_log(number))
        return supervise(request, directory=directory, starter=ChildAgents(), observer=observer)

    def resume(
        self, request: LaunchRequest, directory: RunDirectory, observer: Observer
    ) -> RunOutcome:
        """Go on with a run that is in its directory already."""
        return supervise(request, directory=directory, starter=ChildAgents(), observer=observer)


class ChildAgents:
    """Starts agents as children of this process."""

    def start(
        self, call: AgentCall, *, reactor: Reactor, ended: Callable[[str], None]
    ) -> "ChildAgent":
        """Start an agent in a session of its own, which the terminal's Ctrl-C does not reach."""
        env = dict(os.environ) | {AGENT_PROCESS: marker_of(call)}
        order = ProcessOrder(argv=agent_argv(call), env=env, log=call.log)
        pid = start_independent(order)
        reactor.on_exit(pid, lambda status: ended(f"agent process ended with {status.text}"))
        return ChildAgent(pid=pid)

    def adopt(
        self, call: AgentCall, *, reactor: Reactor, ended: Callable[[str], None]
    ) -> "AdoptedAgent":
        """Watch an agent that another controller's process started."""
        agent = AdoptedAgent(pids=processes_with(AGENT_PROCESS, marker_of(call)))
        agent.watch(reactor, ended)
        return agent


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptedAgent:
    """An agent and its warden, which are not our children: looked after by their numbers."""

    pids: list[int]

    def watch(self, reactor: Reactor, ended: Callable[[str], None]) -> None:
        """Call `ended` once both are gone."""
        if any(process_state(pid) not in {None, "Z"} for pid in self.pids):
            reactor.call_after(_LOOK_S, lambda: self.watch(reactor, ended))
        else:
            reactor.call_soon(lambda: ended("it is gone"))

    def kill(self) -> None:
        """Have its warden kill it, and all that is below it."""
        for pid in self.pids:
            signal_process(pid, signal.SIGTERM)
            signal_process(pid, signal.SIGCONT)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildAgent:
    """A child process that is an agent."""

    pid: int

    def kill(self) -> None:
        """Have its warden kill it, frozen or not, with all that is below it."""
        signal_process(self.pid, signal.SIGTERM)
        signal_process(self.pid, signal.SIGCONT)


def agent_argv(call: AgentCall) -> tuple[str, ...]:
    """The command that starts an agent; `-I -S` because it needs nothing but itself."""
    return (
        *(sys.executable, "-I", "-S", str(call.archive)),
        *("--connect", f"{call.controller.host}:{call.controller.port}"),
        *("--secret-file", str(call.secret_file)),
        *("--run-dir", str(call.run_directory)),
        *("--agent-id", str(call.place.agent_id)),
        *("--slots", str(call.place.slots)),
    )


def marker_of(call: AgentCall) -> str:
    """By what an agent's processes are known."""
    return f"{call.place.agent_id}@{call.run_directory}"


def _on_this_machine(command: tuple[str, ...]) -> tuple[str, ...]:
    """Return a command whose `{bin}` is where this program's own scripts are installed."""
    scripts = str(Path(sys.executable).parent)
    return tuple(word.replace(SCRIPTS_PLACEHOLDER, scripts) for word in command)


def _run_first(command: tuple[str, ...], *, log: Path) -> None:
    """Run a preparation to its end; it dies with us, so a Ctrl-C leaves nothing behind.

    Raises:
        StorageError: it says that its storage failed (exit code 8).
        HostError: it cannot be started or failed otherwise; the last lines of its log are given.
    """
    try:
        status = run_dependent(ProcessOrder(argv=command, env=os.environ, log=log))
    except StartError as error:
        raise HostError(host=socket.gethostname(), problem=error.reason) from None
    if status.exit_code == 0:
        return
    last = " / ".join(log.read_text(errors="replace").splitlines()[-3:])
    said = f": {last}" if last else ""
    problem = f"{Path(command[0]).name} ended with {status.text}{said}"
    if status.exit_code == ExitCode.STORAGE:
        raise StorageError(path=str(log), problem=problem)
    raise HostError(host=socket.gethostname(), problem=problem, instead=f"the rest is in {log}")


LAUNCHER: Launcher = LocalLauncher()
