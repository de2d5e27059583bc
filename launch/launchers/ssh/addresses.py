"""Which address a host has for the others, and which one this machine has for the hosts."""

import socket
from collections.abc import Sequence
from ipaddress import ip_address

from launch.clock import SystemClock
from launch.launchers.ssh.command import ssh_to
from launch.request import HostSlots, SshStart
from launch.transport.many import Question, ask_many
from orchestrator.errors import HostError

_ASK_TIMEOUT_S = 30.0
_DISCARD_PORT = 9  # nothing is sent: connecting a datagram socket asks the routing table alone


def addresses_of(start: SshStart, hosts: Sequence[HostSlots]) -> tuple[str, ...]:
    """The addresses of hosts as OpenSSH's configuration has them (`HostName`), without connecting.

    Raises:
        HostError: ssh does not take a name, or a setting.
    """
    questions = [
        Question(argv=ssh_to(start, host, "-G"), text=b"", timeout_s=_ASK_TIMEOUT_S)
        for host in hosts
    ]
    replies = ask_many(questions, at_once=start.parallel, wall_s=SystemClock().wall_s)
    found = []
    for host, reply in zip(hosts, replies, strict=True):
        names = [line.split(" ", 1)[1] for line in reply.out.splitlines() if _is_name(line)]
        if reply.exit_code != 0 or not names:
            said = reply.err.strip().splitlines()
            raise HostError(host=host.name, problem=f"ssh: {said[-1] if said else 'no answer'}")
        found.append(names[0])
    return tuple(found)


def own_address(hosts: Sequence[HostSlots]) -> str:
    """This machine's address on the way to the hosts; the loopback's where there is no other.

    Raises:
        HostError: a host's name has no address here.
    """
    own = [_source(host) for host in hosts[:1]]
    if ip_address(own[0].partition("%")[0]).is_loopback:  # the first host is this machine itself
        own = [_source(host) for host in hosts]
    reachable = (a for a in own if not ip_address(a.partition("%")[0]).is_loopback)
    return next(reachable, own[0])


def _is_name(line: str) -> bool:
    return line.startswith("hostname ")


def _source(host: HostSlots) -> str:
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host.address, _DISCARD_PORT, type=socket.SOCK_DGRAM
        )[0]
        with socket.socket(family, kind) as asked:
            asked.connect(address)
            return str(asked.getsockname()[0])
    except OSError as error:
        reason = error.strerror or str(error)
        raise HostError(
            host=host.name,
            problem=f"no way to its address {host.address} from here: {reason}",
            instead="set launch.controller_host to this machine's address as the hosts see it",
        ) from None
