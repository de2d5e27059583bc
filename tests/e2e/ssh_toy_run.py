"""A controller process for tests: a run of toy ranks on other hosts, told in lines on stdout.

Arguments: the run directory, then the hosts and the request's changes as JSON, then the toy rank's
arguments.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

from launch.launchers.ssh.command import ssh_options
from launch.launchers.ssh.launcher import LAUNCHER
from launch.request import HostSlots, LaunchRequest, PreflightTerms, SshStart
from launch.run_directory import RunDirectory
from orchestrator.errors import LlmorchError
from orchestrator.specs.remote import SshSpec
from tests.e2e.toy_run import Teller, tell, toy_request

TERMS = {
    "timeout_s": 90.0,
    "clock_skew_s": 5.0,
    "free_disk_bytes": 1,
    "gpus": 0,
    "gpu_used_bytes": 0,
    "packages": (),
}


def ssh_request(changes: dict, toy_arguments: list[str]) -> LaunchRequest:
    changes = dict(changes)
    start = changes.pop("ssh")
    hosts = tuple(HostSlots(**host) for host in changes.pop("hosts"))
    terms = changes.pop("terms", {})
    plain = toy_request(changes, toy_arguments)
    return replace(
        plain,
        hosts=hosts,
        controller_host=changes.get("controller_host", "10.77.0.1"),
        ssh=SshStart(
            options=ssh_options(SshSpec.model_validate(start["spec"])),
            parallel=start.get("parallel", 8),
            python=start.get("python", sys.executable),
            working_folder=start["working_folder"],
        ),
        preflight=PreflightTerms(**(TERMS | terms)),
    )


def main() -> int:
    path, changes, *toy_arguments = sys.argv[1:]
    request = ssh_request(json.loads(changes), toy_arguments)
    directory = Path(path)
    is_there = (directory / "journal.jsonl").exists()
    try:
        run = RunDirectory.reopen(directory) if is_there else RunDirectory.create(directory)
        begin = LAUNCHER.resume if is_there else LAUNCHER.submit
        outcome = begin(request, run, Teller(None))
    except LlmorchError as error:
        tell(what="error", message=str(error))
        return error.exit_code
    tell(what="outcome", **json.loads(outcome.to_json()))
    return outcome.exit_code


if __name__ == "__main__":
    sys.exit(main())
