"""DeepSpeed's own way to start a run: a hostfile, and a script around its launcher."""

from collections.abc import Sequence
from pathlib import Path

from launch.hostfile import read_hosts
from orchestrator.cli.generated_script import DEFAULT_PORT
from orchestrator.engines.deepspeed.engine import ENVIRONMENT_FILE
from orchestrator.errors import InvalidFile
from orchestrator.records.bundle import BundleFile
from orchestrator.records.plan import Plan
from orchestrator.topology.hosts import Host
from orchestrator.topology.roster import roster_problems, with_gpus

HOSTFILE = "hostfile"
SCRIPT = "deepspeed.sh"

_SCRIPT = """\
#!/bin/bash
# Starts the ranks of all hosts from this one with DeepSpeed's launcher{over}.
set -euo pipefail
here=$(cd "$(dirname "${{BASH_SOURCE[0]}}")" && pwd)
bin=${{LLMORCH_BIN:-$(dirname "$(command -v deepspeed)")}}

set -a
. "$here/environment.sh"
set +a
. "$here/arguments.sh"
# Of other variables the launcher forwards MLFLOW*, PYTHON*, MV2*, UCX* and NCCL* alone.
export DS_ENV_FILE="$here/{environment}"
{check}
# A rank reads LOCAL_RANK, as under torchrun; the first word is the launcher's own python.
exec deepspeed {words} --master_port "${{MASTER_PORT:-{port}}}" \\
  --no_local_rank "${{command[@]:1}}"
"""

_CHECK = """\
hostfile=${HOSTFILE:-$here/hostfile}
if [ ! -s "$hostfile" ]; then
  echo "$hostfile: hostfile not found; DeepSpeed would train on this host alone" >&2
  echo "  a line a host: h1 slots=SLOTS; llmorch generate --hostfile F writes it" >&2
  exit 6
fi
"""

_ALONE = """\
# One host: no hostfile, since one makes the launcher ask for ssh; /job/hostfile is another's.
"""


def hosts_of(plan: Plan, hostfile: Path | None) -> tuple[Host, ...]:
    """Return the hosts of a hostfile, if one is named, as the plan's ranks need them.

    Raises:
        InvalidFile: it is missing or wrong, or its hosts are not those of the plan.
    """
    if hostfile is None:
        return ()
    hosts = read_hosts(hostfile)
    problems = roster_problems(hosts, plan.run.machine, plan.layout)
    if problems:
        raise InvalidFile(file=str(hostfile), problems=problems)
    return with_gpus(hosts, plan.run.machine)[: plan.run.machine.hosts]


def deepspeed_files(plan: Plan, hosts: Sequence[Host]) -> tuple[BundleFile, ...]:
    """Return the script, and the hostfile where hosts are known."""
    script = BundleFile(path=SCRIPT, text=script_text(plan))
    if not hosts:
        return (script,)
    return (script, BundleFile(path=HOSTFILE, text=hostfile_text(hosts)))


def script_text(plan: Plan) -> str:
    """Return a bash script that starts every rank with `deepspeed`."""
    machine = plan.run.machine
    if machine.hosts == 1:
        words, check = f'--num_gpus {machine.gpus_per_host} --hostfile "$here/none"', _ALONE
    else:
        words = '--hostfile "$hostfile"'
        check = _CHECK.replace("SLOTS", str(machine.gpus_per_host))
    port = plan.run.spec.launch.rendezvous_port or DEFAULT_PORT
    over = "" if machine.hosts == 1 else " over pdsh and ssh"
    return _SCRIPT.format(
        over=over, environment=ENVIRONMENT_FILE, check=check, words=words, port=port
    )


def hostfile_text(hosts: Sequence[Host]) -> str:
    """Return DeepSpeed's dialect: where ssh finds a host, and its slots."""
    lines = []
    for host in hosts:
        address = host.address or host.name
        lines.append(f"{host.user}@{address}" if host.user else address)
    return "".join(f"{line} slots={host.gpus}\n" for line, host in zip(lines, hosts, strict=True))
