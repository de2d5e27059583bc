"""Whether the hosts somebody listed are the hosts a run needs."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from orchestrator.errors import Problem
from orchestrator.records.layout import Layout
from orchestrator.records.run import Machine
from orchestrator.topology.hosts import Host
from orchestrator.topology.nodelist import compressed, shortened

_WHERE = 34


def with_gpus(hosts: Sequence[Host], machine: Machine) -> tuple[Host, ...]:
    """Return hosts that all say their GPUs: where no line did, what the run file says."""
    return tuple(
        host if host.gpus is not None else replace(host, gpus=machine.gpus_per_host)
        for host in hosts
    )


def roster_problems(hosts: Sequence[Host], machine: Machine, layout: Layout) -> tuple[Problem, ...]:
    """Return why these hosts cannot hold the run: unequal ones, too few, too many.

    Ranks are placed on equal hosts alone, as the cluster card says them. Hosts beyond the
    layout's are spares, as many as the run file says at most.
    """
    hosts = with_gpus(hosts, machine)
    return (*_unequal(hosts, machine), *_sum(hosts, machine, layout))


def _unequal(hosts: Sequence[Host], machine: Machine) -> Iterator[Problem]:
    """Yield a problem for each number of GPUs that is not the run's, with the hosts that say it."""
    wrong: dict[int, list[Host]] = {}
    for host in hosts:
        if host.gpus is not None and host.gpus != machine.gpus_per_host:
            wrong.setdefault(host.gpus, []).append(host)
    card = machine.cluster
    for gpus, group in wrong.items():
        names = shortened(compressed(host.name for host in group), columns=_WHERE)
        uses = f"{card.name} has {card.gpus_per_host}"
        if machine.gpus_per_host != card.gpus_per_host:
            uses = f"the run uses {machine.gpus_per_host}"
        yield Problem(
            key=f"line {group[0].line}",
            message=f"slots={gpus} on {names} ({_counted(len(group))}), and {uses} a host",
            possible=f"slots={machine.gpus_per_host}, or another cluster.card; hosts are equal",
            rule="hostfile-slots",
        )


def _sum(hosts: Sequence[Host], machine: Machine, layout: Layout) -> Iterator[Problem]:
    total = sum(host.gpus or 0 for host in hosts)
    most = machine.world_size + machine.spares * machine.gpus_per_host
    if machine.world_size <= total <= most:
        return
    needs = (
        f"tp {layout.tp} x cp {layout.cp} x dp {layout.dp} x pp {layout.pp} = "
        f"{layout.world_size:,} ranks"
    )
    if machine.spares:
        needs += f" and {_counted(machine.spares)} to spare"
    listed = f"{_counted(len(hosts))} with {total:,} slots"
    if total < machine.world_size:
        missing = -(-(machine.world_size - total) // machine.gpus_per_host)
        possible = f"add {_counted(missing)}, or write cluster.hosts: {len(hosts)}"
    else:
        spare = -(-(total - machine.world_size) // machine.gpus_per_host)
        possible = f"write cluster.spares: {spare}, or cluster.hosts: {len(hosts)}"
    yield Problem(
        key="",
        message=f"{listed}, and the run needs {machine.hosts:,} ({needs})",
        possible=possible,
        rule="hostfile-sum",
    )


def _counted(hosts: int) -> str:
    return f"{hosts:,} host" if hosts == 1 else f"{hosts:,} hosts"
