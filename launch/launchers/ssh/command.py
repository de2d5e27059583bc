"""The ssh command that makes a host do something, and what is sent along on its standard input.

The only text a shell sees on the host is `exec PYTHON -I -c BOOT`, quoted by `shell_text`. All
else, awkward or secret, travels on standard input: one JSON line with the program and its
order, then whatever the program reads.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

from launch.request import HostSlots, SshStart
from orchestrator.specs.remote import SshSpec

PROGRAM = "program.py"
PROBE = "probe.py"
LEAST_PYTHON = (3, 11)
OLD_PYTHON = "llmorch-python "
# Nothing in it that any shell takes for its own inside single quotes; any Python understands the
# first statement.
_BOOT = (
    f'import sys;sys.version_info<{LEAST_PYTHON}and sys.exit("{OLD_PYTHON}%d.%d.%d"'
    "%sys.version_info[:3]);import json;"
    's=open(0,"rb",closefd=False);o=json.loads(s.readline());n={};'
    'exec(compile(o["program"],"llmorch","exec"),n);sys.exit(n["main"](o["order"],s))'
)
# Without an answer in these times a host counts as silent; `launch.ssh.options` overrules them.
_OWN_OPTIONS = {
    "BatchMode": "yes",  # nobody is there to answer a question of a hundred hosts
    "ConnectTimeout": "10",
    "ServerAliveInterval": "10",
    "ServerAliveCountMax": "3",
}


def ssh_options(spec: SshSpec) -> tuple[str, ...]:
    """The words between `ssh` and a host's name; ssh takes the first value it meets."""
    given = {name.lower() for name in spec.options}
    options = dict(spec.options)
    options |= {key: value for key, value in _OWN_OPTIONS.items() if key.lower() not in given}
    words = ["-T", "-x"]
    for flag, value in (
        ("-F", spec.config_file),
        ("-i", spec.identity_file),
        ("-l", spec.user),
        ("-p", spec.port),
    ):
        if value is not None:
            words += [flag, str(value)]
    for name, value in options.items():
        words += ["-o", f"{name}={value}"]
    return tuple(words)


def ssh_argv(start: SshStart, host: HostSlots) -> tuple[str, ...]:
    """The command that runs a program on a host."""
    remote = shell_text((start.python, "-I", "-c", _BOOT))
    return (*ssh_to(start, host), remote)


def ssh_to(start: SshStart, host: HostSlots, *more: str) -> tuple[str, ...]:
    """`ssh`, its options and the host; a name that begins with a dash is still a name."""
    user = () if host.user is None else ("-l", host.user)
    return ("ssh", *user, *start.options, *more, "--", host.name)


def shell_text(words: Sequence[str]) -> str:
    """Words as a shell on a host reads them: the one place where we quote."""
    return f"exec {shlex.join(words)}"


def order_text(program: str, order: Mapping[str, Any], payload: bytes = b"") -> bytes:
    """What a host's Python reads: the program, its order, and what the program reads itself."""
    line = json.dumps({"program": _source(program), "order": dict(order)})
    return line.encode() + b"\n" + payload


@cache
def _source(program: str) -> str:
    return (resources.files("launch.remote") / program).read_text(encoding="utf-8")
