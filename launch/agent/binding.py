"""Which processors a rank may use: those beside its GPU, a share of its own, or all of them.

Facts come from `/sys` and `/proc` and from what this process may use itself, so a cgroup or a batch
system that gave the host a part of its processors is obeyed. Memory follows: Linux takes a page
from the NUMA node of the processor that first touches it.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from launch.wire import Binding

_UNKNOWN_NODE = -1  # what the kernel writes where firmware does not say
CPUSET = frozenset[int]


class BindingError(Exception):
    """The host cannot give what the run asks for; says what it has."""

    def __init__(self, *, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A host's processors, by core and by NUMA node, and its NVIDIA GPUs in PCI order.

    Only processors that this process may use are in it. `gpu_nodes` has the NUMA node of each GPU,
    None where the host does not say.
    """

    cores: tuple[CPUSET, ...]
    nodes: tuple[CPUSET, ...]
    gpu_nodes: tuple[CPUSET | None, ...]


def read_machine(root: Path = Path("/"), *, allowed: Iterable[int] | None = None) -> Machine:
    """The host as the kernel describes it below `root`."""
    ours = frozenset(os.sched_getaffinity(0) if allowed is None else allowed)
    nodes = _nodes(root, ours)
    return Machine(
        cores=_cores(root, ours),
        nodes=tuple(cpus for _, cpus in sorted(nodes.items()) if cpus) or (ours,),
        gpu_nodes=tuple(nodes.get(node) or None for node in _gpu_nodes(root)),
    )


def processors(
    machine: Machine, policy: Binding, *, local_world_size: int
) -> tuple[CPUSET | None, ...]:
    """The processors of each local rank; None leaves a rank all of them.

    Raises:
        BindingError: `cores` was asked for and a node has fewer cores than ranks.
    """
    match policy:
        case Binding.NONE:
            return (None,) * local_world_size
        case Binding.AUTO:
            return _beside_gpus(machine, local_world_size)
        case Binding.NUMA:
            return _nodes_of(machine, local_world_size)
        case Binding.CORES:
            return _own_cores(machine, _nodes_of(machine, local_world_size))


def visible_gpus(machine: Machine, *, count: int, given: str | None) -> str | None:
    """`CUDA_VISIBLE_DEVICES` for every rank of a host: the first `count` GPUs it has.

    What a user or a batch system gave is kept. None on a host without GPUs.
    """
    if given is not None or not machine.gpu_nodes:
        return given
    return ",".join(str(index) for index in range(min(count, len(machine.gpu_nodes))))


def spoken_cpus(cpus: Iterable[int]) -> str:
    """Processors as the kernel writes them: `0-3,8`."""
    runs: list[list[int]] = []
    for cpu in sorted(cpus):
        if runs and cpu == runs[-1][1] + 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def _beside_gpus(machine: Machine, count: int) -> tuple[CPUSET | None, ...]:
    """By the GPU's node, where that says something: a host of one node has nothing to choose."""
    if len(machine.nodes) == 1 or len(machine.gpu_nodes) < count:
        return (None,) * count
    return machine.gpu_nodes[:count]


def _nodes_of(machine: Machine, count: int) -> tuple[CPUSET, ...]:
    """The node of each rank: its GPU's, or the ranks spread evenly in order."""
    spread = [machine.nodes[i * len(machine.nodes) // count] for i in range(count)]
    known = machine.gpu_nodes[:count] if len(machine.gpu_nodes) >= count else ()
    return tuple((known[i] if known else None) or even_share for i, even_share in enumerate(spread))


def _own_cores(machine: Machine, nodes: tuple[CPUSET, ...]) -> tuple[CPUSET, ...]:
    """Each rank's equal share of the whole cores of its node."""
    shares: list[CPUSET] = []
    for i, node in enumerate(nodes):
        cores = [core for core in machine.cores if core <= node]
        place, sharers = nodes[:i].count(node), nodes.count(node)
        each = len(cores) // sharers
        if each == 0:
            have = f"{sharers} ranks on {len(cores)} cores (processors {spoken_cpus(node)})"
            raise BindingError(reason=f"launch.binding cores: {have}; a rank needs one of its own")
        shares.append(frozenset().union(*cores[place * each : (place + 1) * each]))
    return tuple(shares)


def _nodes(root: Path, ours: CPUSET) -> Mapping[int, CPUSET]:
    folders = (root / "sys/devices/system/node").glob("node[0-9]*")
    return {
        int(folder.name.removeprefix("node")): _cpu_list(folder / "cpulist") & ours
        for folder in folders
    }


def _cores(root: Path, ours: CPUSET) -> tuple[CPUSET, ...]:
    """Processors that share a core, in order of their first; alone where the kernel is silent."""
    topology = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    siblings = {_cpu_list(root / topology.format(cpu)) | {cpu} for cpu in ours}
    return tuple(sorted((core & ours for core in siblings), key=min))


def _gpu_nodes(root: Path) -> tuple[int, ...]:
    """The NUMA node of each GPU of the NVIDIA driver, in PCI order, as CUDA counts equal GPUs."""
    addresses = sorted(path.name for path in (root / "proc/driver/nvidia/gpus").glob("*"))
    return tuple(_number(root / "sys/bus/pci/devices" / a.lower() / "numa_node") for a in addresses)


def _cpu_list(file: Path) -> CPUSET:
    """The processors of a list such as `0-3,8`; none where there is no such file."""
    cpus: set[int] = set()
    for part in filter(None, _text(file).split(",")):
        first, _, last = part.partition("-")
        cpus.update(range(int(first), int(last or first) + 1))
    return frozenset(cpus)


def _number(file: Path) -> int:
    text = _text(file)
    return int(text) if text.lstrip("-").isdecimal() else _UNKNOWN_NODE


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
