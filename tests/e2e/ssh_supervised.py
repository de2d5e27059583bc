"""A run of toy ranks on the hosts of a testbed, over real ssh, seen and disturbed from outside."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.e2e.supervised import ROOT, ToyRun
from tests.e2e.testbed import Process, Testbed, children, die_with_parent

PATIENCE = {"ConnectTimeout": "30", "ServerAliveInterval": "5", "ServerAliveCountMax": "3"}
KEEN = {"ConnectTimeout": "3", "ServerAliveInterval": "1", "ServerAliveCountMax": "2"}
LEASE_S = 5.0
FENCED_S = LEASE_S + 15.0  # on a machine that does much else
DEADLINE_S = 150.0


class SshToyRun(ToyRun):
    """One controller process beside the hosts; use it as a context."""

    def __init__(self, bed: Testbed, directory: Path, *toy: object, **changes: Any) -> None:
        self.bed = bed
        self.directory = directory
        self.told: list[dict[str, Any]] = []
        self._rest = b""
        changes = {
            "hosts": [{"name": h.name, "address": h.address, "slots": 1} for h in bed.hosts],
            "ssh": {
                "spec": {"config_file": str(bed.ssh_config), "options": PATIENCE},
                "working_folder": str(directory.parent),
            },
        } | changes
        rules = {"lease_s": LEASE_S, "join_timeout_s": 60.0}
        changes["supervision"] = rules | changes.get("supervision", {})
        program = ROOT / "tests" / "e2e" / "ssh_toy_run.py"
        self.process = subprocess.Popen(
            bed.inside(
                *(sys.executable, program, directory, json.dumps(changes), *toy), folder=ROOT
            ),
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - it calls one C function
        )

    def until(
        self, is_it: Callable[[dict[str, Any]], bool], *, within_s: float = DEADLINE_S
    ) -> dict[str, Any]:
        return super().until(is_it, within_s=within_s)

    def end(self, *, within_s: float = DEADLINE_S) -> int:
        return super().end(within_s=within_s)

    def ranks(self, host: str) -> list[int]:
        """The ranks of a host, by this machine's numbers."""
        return [p.pid for p in self._of(host) if any("toy_rank" in word for word in p.command)]

    def agents(self, host: str) -> list[int]:
        """The agent of a host and its warden."""
        return [p.pid for p in self._of(host) if "--agent-id" in p.command]

    def clients(self, host: str) -> list[int]:
        """The controller's own ssh processes that speak to a host."""
        return [p.pid for p in children(self.process.pid) if f"-- {host} " in " ".join(p.command)]

    def _of(self, host: str) -> list[Process]:
        return self.bed.host(host).processes()

    def pids(self) -> list[int]:
        """None: the journal's numbers are those of the hosts, and not of this machine."""
        return []

    def rank_pid(self, *_: Any, **__: Any) -> int:
        raise AssertionError("the journal's pids are the hosts'; use `ranks`")

    def agent_pid(self) -> int:
        raise AssertionError("the journal's pids are the hosts'; use `agents`")


def end(pids: Iterable[int]) -> None:
    """Kill processes that may be gone already."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
