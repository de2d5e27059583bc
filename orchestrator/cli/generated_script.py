"""The shell texts of a generated folder: arguments, environment, and a start by torchrun."""

import shlex
from collections.abc import Iterator
from itertools import groupby

from orchestrator import api
from orchestrator.errors import EngineRefused
from orchestrator.records.bundle import (
    BUNDLE_PLACEHOLDER,
    SCRIPTS_PLACEHOLDER,
    EngineBundle,
    Reason,
)
from orchestrator.records.plan import Plan
from orchestrator.specs.choices import StarterKind

_FOLDERS = {BUNDLE_PLACEHOLDER: '"$here"', SCRIPTS_PLACEHOLDER: '"$bin"'}

_SCRIPT = """\
#!/bin/bash
# Starts the ranks of this host with {program}. On each of the {hosts}:
#
#   NODE_RANK=0 MASTER_ADDR=first-host bash run.sh      # NODE_RANK from 0 to {last}
#
# On Slurm: MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n1), and
# NODE_RANK is read from SLURM_NODEID. One start a host, never one a GPU.
set -euo pipefail
here=$(cd "$(dirname "${{BASH_SOURCE[0]}}")" && pwd)
bin=${{LLMORCH_BIN:-$(dirname "$(command -v llmorch || command -v torchrun)")}}
node_rank=${{NODE_RANK:-${{SLURM_NODEID:-0}}}}
master_addr=${{MASTER_ADDR:{default}}}
master_port=${{MASTER_PORT:-{port}}}

set -a
. "$here/environment.sh"
set +a
. "$here/arguments.sh"
{prepare}
exec {torchrun} --no-python --nnodes={num_hosts} --nproc-per-node={slots} --max-restarts=0 \\
  --node-rank="$node_rank" --master-addr="$master_addr" --master-port="$master_port" \\
  "${{command[@]}}"
"""


_SUPERVISED = """\
#!/bin/bash
# Starts and supervises the whole run, on the host where llmorch shall be: see launch in run.yaml.
# For a start by torchrun instead: launch.starter: torchrun, and generate again.
set -euo pipefail
exec llmorch launch "$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/run.yaml" "$@"
"""

DEFAULT_PORT = 29500
"""Where ranks meet; torchrun's own default."""


def starter_of(plan: Plan) -> StarterKind:
    """Return what the generated script starts: our agent where the engine can be supervised.

    Raises:
        EngineRefused: the agent is asked for, and the engine's ranks do not report their steps.
    """
    asked, engine = plan.run.spec.launch.starter, plan.run.spec.engine.name
    reports = api.engine_named(engine).capabilities().reports
    if asked is StarterKind.AGENT and not reports:
        raise EngineRefused(
            engine=engine,
            reason="launch.starter: agent, but its ranks do not report their steps, so no agent "
            "can supervise them",
            instead="launch: {starter: torchrun}",
        )
    return asked or (StarterKind.AGENT if reports else StarterKind.TORCHRUN)


def script_text(plan: Plan, bundle: EngineBundle) -> str:
    """Return a bash script that starts the run: by our agents, or a host's ranks without llmorch.

    `--max-restarts=0`: torchrun restarts only where every agent survives; a scheduler, or
    `llmorch launch`, starts it again.
    """
    machine, launch = plan.run.machine, plan.run.spec.launch
    if starter_of(plan) is StarterKind.AGENT:
        return _SUPERVISED
    one = machine.hosts == 1
    return _SCRIPT.format(
        hosts="one host" if one else f"{machine.hosts} hosts",
        last=machine.hosts - 1,
        default="-127.0.0.1" if one else '?"the address of the first host"',
        prepare=_prepare(bundle),
        program=bundle.torchrun[0],
        torchrun=shlex.join(bundle.torchrun),
        port=launch.rendezvous_port or DEFAULT_PORT,
        num_hosts=machine.hosts,
        slots=machine.gpus_per_host,
    )


def _prepare(bundle: EngineBundle) -> str:
    if not bundle.prepare:
        return ""
    commands = "\n  ".join(" ".join(word_text(word) for word in line) for line in bundle.prepare)
    return f'if [ "$node_rank" = 0 ]; then\n  {commands}\nfi\n'


def arguments_text(bundle: EngineBundle) -> str:
    """Return the command of every rank as a bash array, an option a line, each with its reason."""
    why = {reason.part: reason for reason in bundle.reasons}
    lines = ["# The command of every rank; ranks differ by environment alone.", "command=("]
    for section, options in groupby(_options(bundle.argv), key=lambda o: _section(o, why)):
        lines += ["", f"  # {section}"] if section else []
        for option in options:
            text = " ".join(word_text(word) for word in option)
            reason = why.get(option[0])
            lines.append(f"  {text}  # {reason.why}" if reason else f"  {text}")
    return "\n".join([*lines, ")"]) + "\n"


def _section(option: tuple[str, ...], why: dict[str, Reason]) -> str:
    reason = why.get(option[0])
    return reason.section if reason else ""


def environment_text(bundle: EngineBundle) -> str:
    """Return the variables of every rank as shell assignments, each with its reason."""
    why = {reason.part: reason.why for reason in bundle.reasons}
    lines = ["# Variables of every rank. MASTER_*, RANK and WORLD_SIZE are the starter's."]
    for name, value in bundle.env:
        lines += ["", f"# {why[name]}"] if name in why else []
        lines.append(f"{name}={shlex.quote(value)}")
    return "\n".join(lines) + "\n"


def _options(argv: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Split a command at its options: the words before the first, then each with its words."""
    current: list[str] = []
    for word in argv:
        if word.startswith("--") and current:
            yield tuple(current)
            current = []
        current.append(word)
    yield tuple(current)


def word_text(word: str) -> str:
    """Return a word of a command as bash reads it, with the folders of the script put in."""
    for placeholder, folder in _FOLDERS.items():
        if placeholder in word:
            return folder.join(word_text(part) for part in word.split(placeholder))
    return shlex.quote(word) if word else ""
