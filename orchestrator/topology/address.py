"""Where Slurm says that a host stands: `SLURM_TOPOLOGY_ADDR`, such as `s0.s4.h17`.

Slurm sets the variable for each host of a job, with what lies above the host from the top
down and the host last, and `SLURM_TOPOLOGY_ADDR_PATTERN` beside it (`switch.switch.node`,
`block.node`; `node` alone where the cluster has no topology plug-in). A level at which a host
has no switch is empty.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from orchestrator.errors import Problem
from orchestrator.topology.hosts import Host

VARIABLE = "SLURM_TOPOLOGY_ADDR"
PATTERN_VARIABLE = "SLURM_TOPOLOGY_ADDR_PATTERN"
COLLECT = f"srun --ntasks-per-node=1 sh -c 'env | grep ^{VARIABLE}'"
"""What prints the addresses of a job's hosts, in the form a hostfile may have."""

_NODE = "node"


class AddressError(ValueError):
    """An address that is none; says what is wrong with it."""

    def __init__(self, *, problem: str) -> None:
        super().__init__(problem)


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A host and what stands above it, outermost first."""

    switches: tuple[str, ...]
    host: str


def address_of(text: str, *, pattern: str | None = None) -> Address:
    """Return the address that Slurm's text says; without a pattern, the host is the last part.

    Raises:
        AddressError: it has no host, or not the parts of the pattern.
    """
    if pattern is None:
        *switches, host = text.split(".")
    else:
        levels = pattern.split(".")
        if levels[-1] != _NODE:
            raise AddressError(problem=f"the pattern '{pattern}' does not end with '{_NODE}'")
        # A host's own name may hold dots, the switches' may not.
        *switches, host = text.split(".", maxsplit=len(levels) - 1)
        if len(switches) != len(levels) - 1:
            raise AddressError(problem=f"'{text}' has not the {len(levels)} parts of '{pattern}'")
    if not host:
        raise AddressError(problem=f"'{text}' names no host")
    return Address(switches=tuple(switches), host=host)


@dataclass(frozen=True, slots=True, kw_only=True)
class Addressed:
    """Hosts with the switches that an environment tells, and what it told wrongly."""

    hosts: tuple[Host, ...]
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()


def addressed(hosts: Iterable[Host], *, environment: Mapping[str, str]) -> Addressed:
    """Return the hosts with the addresses of `SLURM_TOPOLOGY_ADDR`, one or several.

    Slurm gives a process the address of its own host; several may stand there, separated by
    white space, where somebody collected them. A hostfile that names switches itself is right.
    """
    hosts = tuple(hosts)
    value = environment.get(VARIABLE, "").split()
    if not value or any(host.path for host in hosts):
        return Addressed(hosts=hosts)
    pattern = environment.get(PATTERN_VARIABLE)
    try:
        found = [address_of(text, pattern=pattern) for text in value]
    except AddressError as error:
        return Addressed(hosts=hosts, problems=(Problem(key=VARIABLE, message=str(error)),))
    switches = {one.host: one.switches for one in found}
    told = sum(host.name in switches for host in hosts)
    if told < len(hosts):
        note = (
            f"{VARIABLE} tells the switches of {told} of {len(hosts)} hosts, so they are not used; "
            f"a hostfile made by\n  {COLLECT}\ntells them all"
        )
        return Addressed(hosts=hosts, notes=(note,))
    return Addressed(hosts=tuple(replace(host, switches=switches[host.name]) for host in hosts))
