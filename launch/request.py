"""What a launcher submits: everything about a start, before anything is started."""

import json
import shlex
from dataclasses import asdict, dataclass
from enum import StrEnum

from orchestrator.records.bundle import BundleFile
from orchestrator.specs.choices import Binding
from orchestrator.units import text_of_bytes

REQUEST_SCHEMA = 1
TORCH_DIST_FILES = ("common.pt", "metadata.json", ".metadata")


class Starter(StrEnum):
    """What starts ranks on a host."""

    AGENT = "agent"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSlots:
    """A host that takes part, and how many ranks it runs."""

    name: str
    address: str
    slots: int
    user: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SshStart:
    """How hosts are reached by ssh, and where our programs are on them.

    `options` are the words between `ssh` and a host's name; at most `parallel` connections are
    being made at a time.
    """

    options: tuple[str, ...]
    parallel: int
    python: str
    working_folder: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PreflightTerms:
    """What every host must have before anything starts; `gpus` is 0 where the layout needs none.

    `packages` are distributions that the hosts' Python must hold, with their versions.
    """

    timeout_s: float
    clock_skew_s: float
    free_disk_bytes: int
    gpus: int
    gpu_used_bytes: int
    packages: tuple[tuple[str, str], ...]

    @property
    def facts(self) -> list[str]:
        """What is asked of every host, for people."""
        gpus = f"{self.gpus} free GPUs" if self.gpus else "no GPU"
        disk = text_of_bytes(self.free_disk_bytes)
        limits = f"clocks within {self.clock_skew_s:g} s, {disk} free, {gpus}"
        return [
            f"preflight    {limits}, answers within {self.timeout_s:g} s",
            *(f"package      {name} {version}, on every host" for name, version in self.packages),
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class HangTerms:
    """Between what the limits of ranks without progress lie; `phase_s` is of declared phases."""

    floor_s: float = 30.0
    ceiling_s: float = 600.0
    phase_s: float = 1800.0

    @property
    def text(self) -> str:
        """For people."""
        steps = f"{self.floor_s:g} to {self.ceiling_s:g} s without progress, as steps take long"
        return f"{steps}; {self.phase_s:g} s of start, save, evaluation at most"


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetTerms:
    """How many failures of each class may come at once; one is forgiven `forgiven_after_s`."""

    program: int = 10
    killed: int = 10
    hang: int = 10
    host: int = 20
    checkpoint: int = 5
    forgiven_after_s: float = 3600.0

    @property
    def by_class(self) -> dict[str, int]:
        """The classes with their numbers."""
        return {k: int(v) for k, v in asdict(self).items() if k != "forgiven_after_s"}

    @property
    def text(self) -> str:
        """For people."""
        counts = ", ".join(f"{count} {name}" for name, count in self.by_class.items())
        return f"{counts}; one of each forgiven every {self.forgiven_after_s:g} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervision:
    """When to try again and when to give up; `max_restarts` counts since the last checkpoint."""

    max_restarts: int = 3
    keep_checkpoints: int = 3
    join_timeout_s: float = 60.0
    beat_interval_s: float = 0.5
    lease_s: float = 120.0
    stop_grace_s: float = 60.0
    hang: HangTerms = HangTerms()
    budgets: BudgetTerms = BudgetTerms()


@dataclass(frozen=True, slots=True, kw_only=True)
class RankTerms:
    """What a rank gets of its host: processors, and room for its log.

    `log_folder` is a folder of each host's own; None writes logs into the run directory. A log file
    is at most `log_limit_bytes` long, and `log_keep` older ones stay beside it.
    """

    binding: Binding = Binding.AUTO
    log_folder: str | None = None
    log_limit_bytes: int = 64 << 20
    log_keep: int = 3

    @property
    def facts(self) -> list[str]:
        """For people."""
        where = f"{self.log_folder} of each host" if self.log_folder else "the run directory"
        files = f"{self.log_keep + 1} files of {text_of_bytes(self.log_limit_bytes)} a rank"
        return [f"processors   {_BINDINGS[self.binding]}", f"logs         {where}, {files}"]


_BINDINGS = {
    Binding.AUTO: "those of the NUMA node of a rank's GPU, where that is known",
    Binding.NONE: "all, for every rank",
    Binding.NUMA: "those of one NUMA node",
    Binding.CORES: "each rank has cores of its own",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchRequest:
    """One start: the command of every rank, the files beside it, the hosts, and the rules.

    `prepare` are commands run once, in order, before the first rank starts. Commands may hold
    `{bundle}`, which becomes the absolute bundle folder of the run directory. Ranks are numbered
    host by host. `warm` is the command of a fork server; none means that every rank starts cold.
    A checkpoint is whole when each of `checkpoint_files` is in it and not empty.
    Ports are None where any will do.
    """

    run_name: str
    engine: str
    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    files: tuple[BundleFile, ...]
    hosts: tuple[HostSlots, ...]
    last_step: int
    prepare: tuple[tuple[str, ...], ...] = ()
    warm: tuple[str, ...] = ()
    starter: Starter = Starter.AGENT
    controller_host: str = "127.0.0.1"
    controller_port: int | None = None
    rendezvous_port: int | None = None
    supervision: Supervision = Supervision()
    ranks: RankTerms = RankTerms()
    checkpoint_files: tuple[str, ...] = TORCH_DIST_FILES
    ssh: SshStart | None = None
    preflight: PreflightTerms | None = None

    @property
    def world_size(self) -> int:
        """Ranks on all hosts."""
        return sum(host.slots for host in self.hosts)

    def to_json(self) -> str:
        """The whole request as JSON with stable keys."""
        return json.dumps({"schema": REQUEST_SCHEMA} | asdict(self), indent=2) + "\n"

    def to_text(self) -> str:
        """The request for people: each fact on a line, each file with its text."""
        return "\n".join((*self._facts(), *self._file_texts())) + "\n"

    def _facts(self) -> list[str]:
        rules = self.supervision
        return [
            f"run          {self.run_name}",
            f"engine       {self.engine}",
            f"started by   {self.starter}",
            *(f"host         {h.name} ({h.address}): {h.slots} ranks" for h in self.hosts),
            *self._ssh_facts(),
            f"steps        {self.last_step}",
            f"controller   {self.controller_host}:{_port(self.controller_port)}",
            f"rendezvous   port {_port(self.rendezvous_port)}, of each generation's own",
            f"restarts     {rules.max_restarts} without a new checkpoint",
            f"failures     {rules.budgets.text}",
            f"checkpoints  the last {rules.keep_checkpoints} are kept",
            f"lease        {rules.lease_s:g} s",
            f"hang         {rules.hang.text}",
            *self.ranks.facts,
            *(f"env          {name}={value}" for name, value in self.env),
            *(f"first        {shlex.join(command)}" for command in self.prepare),
            *((f"forked by    {shlex.join(self.warm)}, on every host",) if self.warm else ()),
            f"each rank    {shlex.join(self.argv)}",
        ]

    def _ssh_facts(self) -> list[str]:
        if self.ssh is None:
            return []
        terms = self.preflight
        facts = [
            *(f"user         {h.user} on {h.name}" for h in self.hosts if h.user is not None),
            f"reached by   {shlex.join(('ssh', *self.ssh.options))}, {self.ssh.parallel} at once",
            f"python       {self.ssh.python}, on every host",
            f"folder       {self.ssh.working_folder}, on every host",
        ]
        return facts if terms is None else [*facts, *terms.facts]

    def _file_texts(self) -> list[str]:
        return [f"file         {file.path}\n{file.text}" for file in self.files]


def _port(port: int | None) -> str:
    return "any" if port is None else str(port)
