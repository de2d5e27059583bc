"""The request of a run over ssh: which hosts, at which addresses, with what on them."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from launch import __version__
from launch.hostfile import read_hosts
from launch.launchers.ssh.addresses import addresses_of, own_address
from launch.launchers.ssh.command import ssh_options
from launch.launchers.terms import rank_terms_of, supervision_of, warm_of
from launch.request import HostSlots, LaunchRequest, PreflightTerms, SshStart
from orchestrator.errors import HostError, UsageError
from orchestrator.records.bundle import SCRIPTS_PLACEHOLDER, EngineBundle
from orchestrator.records.run import ResolvedRun
from orchestrator.specs.run import LaunchSpec
from orchestrator.topology.hosts import Host
from orchestrator.units import GIB

_OUR_SCRIPTS = f"{SCRIPTS_PLACEHOLDER}/llmorch-"
_PYPI_ENGINES = frozenset({"megatron-core", "deepspeed"})
_INTERFACE_VARIABLES = ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME")


def request_of(bundle: EngineBundle, run: ResolvedRun) -> LaunchRequest:
    """What would be started; asks ssh's configuration and the routing table, and no host.

    Raises:
        UsageError: there is no hostfile.
        InvalidFile: the hostfile cannot be read.
        HostError: it has too few hosts, or one with too few GPUs; an address cannot be found.
    """
    spec = run.spec.launch
    start = _start(spec)
    hosts = _with_addresses(start, _chosen(spec, run))
    scripts = str(Path(start.python).parent)
    return LaunchRequest(
        run_name=run.name,
        engine=bundle.engine,
        argv=_filled(bundle.argv, scripts),
        prepare=tuple(_filled(command, scripts) for command in bundle.prepare),
        warm=_filled(warm_of(bundle, run), scripts),
        env=_environment(bundle, spec),
        files=bundle.files,
        hosts=hosts,
        last_step=bundle.last_step,
        controller_host=spec.controller_host or own_address(hosts),
        controller_port=spec.controller_port,
        rendezvous_port=spec.rendezvous_port,
        supervision=supervision_of(run.spec),
        ranks=rank_terms_of(run.spec),
        ssh=start,
        preflight=PreflightTerms(
            timeout_s=spec.preflight.timeout_s,
            clock_skew_s=spec.preflight.clock_skew_s,
            free_disk_bytes=round(spec.preflight.free_disk_gib * GIB),
            gpus=run.machine.gpus_per_host if _has_gpus(run) else 0,
            gpu_used_bytes=round(spec.preflight.gpu_used_gib * GIB),
            packages=_packages(bundle),
        ),
    )


def _start(spec: LaunchSpec) -> SshStart:
    python = sys.executable if spec.venv is None else str(Path(spec.venv) / "bin" / "python")
    return SshStart(
        options=ssh_options(spec.ssh),
        parallel=spec.ssh.parallel,
        python=python,
        working_folder=spec.working_folder or str(Path.cwd()),
    )


def _chosen(spec: LaunchSpec, run: ResolvedRun) -> list[Host]:
    if spec.hostfile is None:
        raise UsageError(
            problem="ssh needs to know the hosts, and launch.hostfile is absent",
            instead="give --hostfile FILE: a host a line; hostfiles/README.md has the dialects",
        )
    hosts = read_hosts(Path(spec.hostfile))
    wanted, slots = run.machine.hosts, run.machine.gpus_per_host
    if len(hosts) < wanted:
        raise HostError(
            host=spec.hostfile,
            problem=f"the run needs {wanted} hosts, and there are {len(hosts)} in it",
            instead="add hosts, or set cluster.hosts to what is there",
        )
    chosen = list(hosts[:wanted])
    for host in chosen:
        if host.gpus is not None and host.gpus < slots:
            raise HostError(
                host=host.name,
                problem=f"the run needs {slots} GPUs of each host, and it has {host.gpus} "
                f"({spec.hostfile}: line {host.line})",
            )
    return [replace(host, gpus=slots) for host in chosen]


def _with_addresses(start: SshStart, chosen: Sequence[Host]) -> tuple[HostSlots, ...]:
    hosts = [
        HostSlots(name=h.name, address=h.address or h.name, slots=h.gpus or 1, user=h.user)
        for h in chosen
    ]
    unknown = [slots for host, slots in zip(chosen, hosts, strict=True) if host.address is None]
    found = dict(zip((h.name for h in unknown), addresses_of(start, unknown), strict=True))
    return tuple(replace(host, address=found.get(host.name, host.address)) for host in hosts)


def _filled(command: tuple[str, ...], scripts: str) -> tuple[str, ...]:
    return tuple(word.replace(SCRIPTS_PLACEHOLDER, scripts) for word in command)


def _environment(bundle: EngineBundle, spec: LaunchSpec) -> tuple[tuple[str, str], ...]:
    if spec.interface is None:
        return bundle.env
    own = tuple((name, spec.interface) for name in _INTERFACE_VARIABLES)
    return (*((k, v) for k, v in bundle.env if k not in _INTERFACE_VARIABLES), *own)


def _has_gpus(run: ResolvedRun) -> bool:
    return run.machine.accelerator.architecture != "cpu"


def _packages(bundle: EngineBundle) -> tuple[tuple[str, str], ...]:
    """Return what the ranks' commands are part of: our own workers, an engine from PyPI."""
    engine, _, version = bundle.engine.partition("@")
    found = []
    if any(word.startswith(_OUR_SCRIPTS) for word in bundle.argv):
        found.append(("llmorch", __version__))
    if version and engine in _PYPI_ENGINES:
        found.append((engine, version))
    return tuple(found)
