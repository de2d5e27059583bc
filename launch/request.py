"""What a launcher submits: everything about a start, before anything is started."""

import json
import shlex
from dataclasses import asdict, dataclass
from enum import StrEnum

from orchestrator.records.bundle import BundleFile

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervision:
    """When to try again and when to give up; `max_restarts` counts since the last checkpoint."""

    max_restarts: int = 3
    keep_checkpoints: int = 3
    join_timeout_s: float = 60.0
    beat_interval_s: float = 0.5
    lease_s: float = 120.0
    stop_grace_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchRequest:
    """One start: the command of every rank, the files beside it, the hosts, and the rules.

    `prepare` are commands run once, in order, before the first rank starts. Commands may hold
    `{bundle}`, which becomes the absolute bundle folder of the run directory. Ranks are numbered
    host by host. A checkpoint is whole when each of `checkpoint_files` is in it and not empty.
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
    starter: Starter = Starter.AGENT
    controller_host: str = "127.0.0.1"
    controller_port: int | None = None
    rendezvous_port: int | None = None
    supervision: Supervision = Supervision()
    checkpoint_files: tuple[str, ...] = TORCH_DIST_FILES

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
            f"steps        {self.last_step}",
            f"controller   {self.controller_host}:{_port(self.controller_port)}",
            f"rendezvous   port {_port(self.rendezvous_port)}, of each generation's own",
            f"restarts     {rules.max_restarts} without a new checkpoint",
            f"checkpoints  the last {rules.keep_checkpoints} are kept",
            f"lease        {rules.lease_s:g} s",
            *(f"env          {name}={value}" for name, value in self.env),
            *(f"first        {shlex.join(command)}" for command in self.prepare),
            f"each rank    {shlex.join(self.argv)}",
        ]

    def _file_texts(self) -> list[str]:
        return [f"file         {file.path}\n{file.text}" for file in self.files]


def _port(port: int | None) -> str:
    return "any" if port is None else str(port)
