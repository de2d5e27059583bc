"""The dry run of a topology: hosts, ranks on them, who crosses what, bytes on links."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from launch.host_table import table_of
from launch.hostfile import read_hosts
from orchestrator.cli.files import write_text
from orchestrator.cli.topology_traffic import Counted, counted
from orchestrator.errors import InvalidFile, Problem, UsageError
from orchestrator.records.plan import Plan
from orchestrator.topology.address import addressed
from orchestrator.topology.groups import kinds_of
from orchestrator.topology.host_order import HostOrder, best_order
from orchestrator.topology.hosts import Host
from orchestrator.topology.links import Loads, Traffic, loads
from orchestrator.topology.picture import text_of as svg_of
from orchestrator.topology.placement import Placement, numbered_hosts, placed
from orchestrator.topology.roster import roster_problems, with_gpus
from orchestrator.topology.spans import Span, span_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What of the topology somebody asked for."""

    hostfile: Path | None = None
    svg: Path | None = None
    reordered: Path | None = None
    wants_rank_map: bool = False

    @property
    def any(self) -> bool:
        """Whether anything was asked for."""
        return bool(self.hostfile or self.svg or self.reordered or self.wants_rank_map)


@dataclass(frozen=True, kw_only=True)
class Topology:
    """Where the ranks of a plan stand and what their links carry in a step."""

    plan: Plan
    placement: Placement
    spans: tuple[Span, ...]
    counted: Counted
    by_traffic: tuple[tuple[Traffic, Loads], ...]
    total: Loads
    host_order: HostOrder | None
    notes: tuple[str, ...] = ()

    @property
    def has_experts(self) -> bool:
        """Whether the expert axes mean anything."""
        return self.plan.run.model.moe is not None


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a look at the topology found: problems with their file, or the topology."""

    problems: tuple[Problem, ...] = ()
    file: str = ""
    topology: Topology | None = None


def expect_possible(wishes: Wishes) -> None:
    """Refuse wishes that cannot be granted together.

    Raises:
        UsageError: an order is to be written without hosts, or one file is named twice.
    """
    if wishes.reordered is not None and wishes.hostfile is None:
        raise UsageError(
            problem="--reordered writes the hosts of a hostfile in a better order",
            instead="give the hosts with --hostfile",
        )
    named = [path for path in (wishes.hostfile, wishes.svg, wishes.reordered) if path is not None]
    if any(not path.name for path in named):
        raise UsageError(problem="a file without a name", instead="--svg ranks.svg")
    if len({path.resolve() for path in named}) < len(named):
        raise UsageError(
            problem="--hostfile, --svg and --reordered name the same file",
            instead="give each a file of its own",
        )


def looked(plan: Plan | None, wishes: Wishes) -> Look:
    """Return the topology of a plan on the hosts that were listed, or what is wrong with them.

    A plan that is None still has its hostfile read, so that all problems come at once.
    """
    file = str(wishes.hostfile or "")
    try:
        hosts = None if wishes.hostfile is None else read_hosts(wishes.hostfile)
    except InvalidFile as error:
        return Look(file=error.file, problems=error.problems)
    if plan is None:
        return Look(file=file)
    machine = plan.run.machine
    if hosts is None:
        return Look(topology=_topology(plan, numbered_hosts(machine)))
    problems = roster_problems(hosts, machine, plan.layout)
    told = addressed(with_gpus(hosts, machine), environment=os.environ)
    if problems or told.problems:
        return Look(file=file, problems=(*problems, *told.problems))
    return Look(file=file, topology=_topology(plan, told.hosts, notes=told.notes))


def write(topology: Topology, wishes: Wishes) -> Mapping[str, str]:
    """Write the picture and the reordered hostfile; return the paths by what was asked for.

    Raises:
        StorageError: a file cannot be written.
        UsageError: the picture would have too many boxes.
    """
    texts: dict[str, tuple[Path, str]] = {}
    if wishes.svg is not None:
        texts["svg"] = (wishes.svg, svg_of(topology.plan.layout, topology.placement))
    if wishes.reordered is not None:
        texts["reordered"] = (wishes.reordered, table_of(_in_order(topology)))
    for path, text in texts.values():
        write_text(path, text)
    return {name: str(path) for name, (path, _) in texts.items()}


def _in_order(topology: Topology) -> tuple[Host, ...]:
    """Return all hosts, those that hold ranks first, in the best order found."""
    placement = topology.placement
    better = topology.host_order
    if better is not None:
        placement = placed(placement.roster, placement.machine, seats=better.seats)
    return (*placement.hosts, *placement.spares)


def _topology(plan: Plan, roster: tuple[Host, ...], *, notes: tuple[str, ...] = ()) -> Topology:
    layout, placement = plan.layout, placed(roster, plan.run.machine)
    sent = counted(plan)
    kinds = kinds_of(layout, has_experts=plan.run.model.moe is not None)
    return Topology(
        plan=plan,
        placement=placement,
        spans=tuple(span_of(kind, layout, placement) for kind in kinds),
        counted=sent,
        by_traffic=tuple((one, loads([one], layout, placement)) for one in sent.traffic),
        total=loads(sent.traffic, layout, placement),
        host_order=(
            best_order(sent.traffic, layout, placement)
            if placement.switches and sent.traffic
            else None
        ),
        notes=notes,
    )
