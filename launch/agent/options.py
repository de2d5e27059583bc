"""What an agent is told on its command line; the secret is never there, only where to read it."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from launch.transport.link import Address

_STANDARD_INPUT = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentOptions:
    """Whose agent this is, and where its controller listens."""

    controller: Address
    secret: str
    run_directory: Path
    agent_id: int
    slots: int

    @property
    def marker(self) -> str:
        """What the ranks of this agent, of any life of it, have in their environment."""
        return f"{self.agent_id}@{self.run_directory}"


def parse_options(arguments: Sequence[str]) -> AgentOptions:
    """Read the command line and the secret; wrong words end the program with a usage message."""
    parser = argparse.ArgumentParser(prog="agent.pyz", description=__doc__)
    parser.add_argument("--connect", required=True, type=_address, metavar="HOST:PORT")
    parser.add_argument("--secret-file", required=True, metavar="FILE", help="- for standard input")
    parser.add_argument("--run-dir", required=True, type=Path, metavar="DIR")
    parser.add_argument("--agent-id", required=True, type=int, metavar="N")
    parser.add_argument("--slots", required=True, type=int, metavar="K")
    given = parser.parse_args(arguments)
    return AgentOptions(
        controller=given.connect,
        secret=_read_secret(given.secret_file),
        run_directory=given.run_dir,
        agent_id=given.agent_id,
        slots=given.slots,
    )


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return Address(host=host.strip("[]"), port=int(port))  # IPv6 is written [::1]:port


def _read_secret(source: str) -> str:
    if source == _STANDARD_INPUT:
        return sys.stdin.readline().strip()
    return Path(source).read_text().strip()
