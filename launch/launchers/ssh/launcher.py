"""Start a run on many hosts: each is looked at first, then ssh starts an agent on each."""

import os
import resource
import shlex
from dataclasses import dataclass
from pathlib import Path

from launch.launchers.bundles import place_bundle
from launch.launchers.contract import Launcher
from launch.launchers.ssh.agents import SshAgents
from launch.launchers.ssh.command import PROGRAM, order_text, ssh_argv
from launch.launchers.ssh.inspection import inspect
from launch.launchers.ssh.request import request_of
from launch.request import LaunchRequest, SshStart
from launch.run_directory import RunDirectory
from launch.supervisor.observer import Observer
from launch.supervisor.outcome import RunOutcome
from launch.supervisor.supervise import supervise
from launch.transport.processes import ProcessOrder, StartError, run_dependent
from orchestrator.errors import ExitCode, HostError, StorageError
from orchestrator.records.bundle import BUNDLE_PLACEHOLDER, EngineBundle
from orchestrator.records.run import ResolvedRun

_DESCRIPTORS_OF_A_HOST = 4
_OTHER_DESCRIPTORS = 256


@dataclass(frozen=True, slots=True)
class SshLauncher:
    """Runs ranks on the hosts of a hostfile."""

    name: str = "ssh"

    def prepare(self, bundle: EngineBundle, run: ResolvedRun) -> LaunchRequest:
        """What `submit` would take; no host is asked."""
        return request_of(bundle, run)

    def submit(
        self, request: LaunchRequest, directory: RunDirectory, observer: Observer
    ) -> RunOutcome:
        """Look at every host, start the run, and stay with it to its verdict.

        Raises:
            PreflightFailed: hosts cannot take part; nothing was started.
        """
        start = request.ssh
        if start is None:
            raise HostError(host="launch", problem="the request does not say how to reach hosts")
        _allow_descriptors(len(request.hosts))
        observer.on_sentence(inspect(request, start, directory))
        place_bundle(request, directory)
        for number, words in enumerate(request.prepare):
            observer.on_sentence(f"first, on {request.hosts[0].name}: {shlex.join(words)}")
            _run_first(request, start, directory, number)
        agents = SshAgents(start, request.hosts)
        return supervise(request, directory=directory, starter=agents, observer=observer)

    def resume(
        self, request: LaunchRequest, directory: RunDirectory, observer: Observer
    ) -> RunOutcome:
        """Go on with a run: no host is looked at first, for its own ranks may be at work there."""
        if request.ssh is None:
            raise HostError(host="launch", problem="the request does not say how to reach hosts")
        _allow_descriptors(len(request.hosts))
        agents = SshAgents(request.ssh, request.hosts)
        return supervise(request, directory=directory, starter=agents, observer=observer)


def _run_first(
    request: LaunchRequest, start: SshStart, directory: RunDirectory, number: int
) -> None:
    """Run a preparation on the first host; it dies when the connection, or we, do.

    Raises:
        StorageError: it says that its storage failed (exit code 8).
        HostError: it cannot be started or failed otherwise; the last lines of its log are given.
    """
    host, log = request.hosts[0], directory.prepare_log(number)
    bundle = str(directory.bundle)
    words = [word.replace(BUNDLE_PLACEHOLDER, bundle) for word in request.prepare[number]]
    order = {"do": "command", "folder": start.working_folder, "argv": words}
    text = order_text(PROGRAM, {**order, "env": dict(request.env)})
    theirs, ours = os.pipe()
    try:
        os.write(ours, text)  # and kept open: its end would tell the host that we are gone
        argv = ssh_argv(start, host)
        status = run_dependent(ProcessOrder(argv=argv, env=os.environ, log=log, stdin=theirs))
    except StartError as error:
        raise HostError(host=host.name, problem=error.reason) from None
    finally:
        os.close(theirs)
        os.close(ours)
    if status.exit_code == 0:
        return
    last = " / ".join(log.read_text(errors="replace").splitlines()[-3:])
    said = f": {last}" if last else ""
    problem = f"{Path(words[0]).name} ended with {status.text}{said}"
    if status.exit_code == ExitCode.STORAGE:
        raise StorageError(path=str(log), problem=problem)
    raise HostError(host=host.name, problem=problem, instead=f"the rest is in {log}")


def _allow_descriptors(hosts: int) -> None:
    """Each host needs a connection and a pipe; the usual limit of 1,024 would do for 400."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS_OF_A_HOST * hosts + _OTHER_DESCRIPTORS
    if soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


LAUNCHER: Launcher = SshLauncher()
