"""What a host's answers mean: a finding for each thing that stands in the way.

A check that could not be made is a finding as well: what nobody looked at is not sound.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from launch.preflight.answers import HostAnswers, Untold
from launch.request import LaunchRequest, PreflightTerms
from orchestrator.errors import HostFinding
from orchestrator.units import MIB, text_of_bytes

_SHOWN_PROCESSES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class HostView:
    """One host's answers and what they are held against.

    `unseen` are shared folders in which its answer did not appear here. Wall times are of this
    machine's clock, before the question and after the answer.
    """

    name: str
    answers: HostAnswers
    asked_s: float
    answered_s: float
    unseen: frozenset[str]
    request: LaunchRequest
    terms: PreflightTerms


def findings(view: HostView) -> Iterator[HostFinding]:
    """Yield what stands in a host's way, in the order of the checks."""
    for check in _CHECKS:
        yield from check(view)


_VENV = "set launch.venv to llmorch's environment on the hosts"


def _packages(view: HostView) -> Iterator[HostFinding]:
    found = view.answers.packages
    if isinstance(found, Untold):
        yield _untold(view, "engine", found)
        return
    for name, wanted in view.terms.packages:
        version = found.get(name)
        if version is None:
            yield _finding(view, "engine", f"{name} is missing; {wanted} is needed", _VENV)
        elif version != wanted:
            problem = f"{name} {version}; {wanted} is needed"
            yield _finding(view, "engine", problem, f"install {name} {wanted} there")


def _programs(view: HostView) -> Iterator[HostFinding]:
    yield from _faults(view, "program", view.answers.programs, instead=_VENV)


def _folder(view: HostView) -> Iterator[HostFinding]:
    path = view.request.ssh.working_folder if view.request.ssh else ""
    instead = "set launch.working_folder to a folder that every host has"
    yield from _faults(view, "folder", _named(path, view.answers.folder), instead=instead)


def _shared(view: HostView) -> Iterator[HostFinding]:
    found = view.answers.shared
    instead = "launch.folder and the working folder must be on storage that all hosts share"
    if isinstance(found, Untold):
        yield _untold(view, "shared path", found)
        return
    yield from _faults(view, "shared path", found, instead=instead)
    for path in sorted(view.unseen):
        if found.get(path) is None:
            problem = f"{path}: what the host wrote is not seen here"
            yield _finding(view, "shared path", problem, instead)


def _disk(view: HostView) -> Iterator[HostFinding]:
    free, least = view.answers.free_bytes, view.terms.free_disk_bytes
    if isinstance(free, Untold):
        if not any(_values(view.answers.shared)):  # else that is what stands in the way
            yield _untold(view, "disk", free)
    elif free < least:
        problem = f"{text_of_bytes(free)} are free for the run directory; {text_of_bytes(least)}"
        yield _finding(view, "disk", f"{problem} are needed", "launch.preflight.free_disk_gib")


def _controller(view: HostView) -> Iterator[HostFinding]:
    address = view.request.controller_host
    instead = "set launch.controller_host (and controller_port, where a firewall lets one through)"
    problem = _named(f"this machine at {address}", view.answers.controller)
    yield from _faults(view, "controller", problem, instead=instead)


def _port(view: HostView) -> Iterator[HostFinding]:
    name = f"rendezvous port {view.request.rendezvous_port}"
    instead = "leave launch.rendezvous_port out, or give another"
    yield from _faults(view, "port", _named(name, view.answers.port), instead=instead)


def _rendezvous(view: HostView) -> Iterator[HostFinding]:
    first = view.request.hosts[0].address
    instead = "give addresses that all hosts know: address= in the hostfile"
    yield from _faults(view, "name", _named(first, view.answers.rendezvous), instead=instead)
    own = view.answers.own_address
    variables = dict(view.request.env)
    is_settled = isinstance(view.answers.rendezvous, Untold) or "GLOO_SOCKET_IFNAME" in variables
    if len(view.request.hosts) == 1 or view.terms.gpus or is_settled:
        return
    if own is None or ip_address(own).is_loopback:
        address = "no address" if own is None else own
        problem = f"its name {view.answers.host} has {address} there: gloo would use it"
        yield _finding(view, "name", problem, "set launch.interface, such as eth0")


def _clock(view: HostView) -> Iterator[HostFinding]:
    limit_s, told_s = view.terms.clock_skew_s, view.answers.time_s
    ahead_s = max(told_s - view.answered_s, 0.0) - max(view.asked_s - told_s, 0.0)
    if abs(ahead_s) > limit_s:
        way = "ahead of" if ahead_s > 0 else "behind"
        problem = f"is {abs(ahead_s):.1f} s {way} this machine; at most {limit_s:g} s"
        yield _finding(view, "clock", problem, "synchronise it (chrony, ntpd)")


def _gpus(view: HostView) -> Iterator[HostFinding]:
    state, wanted = view.answers.gpus, view.terms.gpus
    if not wanted:
        return
    if isinstance(state, Untold) or state is None:
        why = state or Untold("it did not answer")
        yield _untold(view, "gpu", why)
        return
    if len(state.memory_mib) < wanted:
        yield _finding(view, "gpu", f"{len(state.memory_mib)} GPUs; {wanted} are needed")
    most = view.terms.gpu_used_bytes
    for index, used, _ in state.memory_mib[:wanted]:
        if used * MIB > most:
            problem = f"GPU {index} has {text_of_bytes(used * MIB)} in use"
            yield _finding(view, "gpu", f"{problem}; at most {text_of_bytes(most)}")
    if state.pids:
        yield _finding(view, "gpu", f"in use by pid {_list(map(str, state.pids))}")


def _others(view: HostView) -> Iterator[HostFinding]:
    found = view.answers.others
    if isinstance(found, Untold):
        yield _untold(view, "other runs", found)
        return
    pids: dict[str, list[str]] = {}
    for pid, run in found:
        pids.setdefault(run, []).append(str(pid))
    for run, numbers in sorted(pids.items()):
        problem = f"pid {_list(numbers)} of run {run}"
        yield _finding(view, "other runs", problem, "stop that run, or kill what it left")


def _values(faults: Mapping[str, str | None] | Untold) -> list[str | None]:
    return [faults.why] if isinstance(faults, Untold) else list(faults.values())


def _named(name: str, fault: str | Untold | None) -> Mapping[str, str | None] | Untold:
    return fault if isinstance(fault, Untold) else {name: fault}


def _faults(
    view: HostView, check: str, faults: Mapping[str, str | None] | Untold, *, instead: str
) -> Iterator[HostFinding]:
    if isinstance(faults, Untold):
        yield _untold(view, check, faults)
        return
    for name, fault in sorted(faults.items()):
        if fault is not None:
            yield _finding(view, check, f"{name}: {fault}", instead)


def _untold(view: HostView, check: str, untold: Untold) -> HostFinding:
    return _finding(view, check, f"could not tell: {untold.why}")


def _finding(view: HostView, check: str, problem: str, instead: str = "") -> HostFinding:
    return HostFinding(host=view.name, check=check, problem=problem, instead=instead)


def _list(words: Iterable[str]) -> str:
    all_words = list(words)
    more = len(all_words) - _SHOWN_PROCESSES
    shown = ", ".join(all_words[:_SHOWN_PROCESSES])
    return f"{shown} and {more} more" if more > 0 else shown


_CHECKS: tuple[Callable[[HostView], Iterator[HostFinding]], ...] = (
    _packages,
    _programs,
    _folder,
    _shared,
    _disk,
    _controller,
    _port,
    _rendezvous,
    _clock,
    _gpus,
    _others,
)
