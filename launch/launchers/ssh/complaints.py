"""What it means when a host gave no answer: ssh's own words, put into ours."""

import signal
from dataclasses import dataclass

from launch.launchers.ssh.command import LEAST_PYTHON, OLD_PYTHON
from launch.preflight.answers import last_step
from launch.transport.many import Reply

_SSH_FAILED = 255
_NOT_FOUND = frozenset({126, 127})
_SHOWN_CHARACTERS = 300
_VENV = "set launch.venv to llmorch's environment on the hosts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    """Which check failed, and how."""

    check: str
    problem: str
    instead: str = ""


# What ssh says, in any of its versions of the last ten years, and what would help.
_SSH_WORDS: tuple[tuple[str, str, str], ...] = (
    ("Host key verification failed", "host key", "connect once by hand, or use ssh-keyscan"),
    ("REMOTE HOST IDENTIFICATION HAS CHANGED", "host key", "ssh-keygen -R HOST, if that is right"),
    ("Permission denied", "login", "see launch.ssh.user and identity_file, or start an ssh-agent"),
    ("Too many authentication failures", "login", "set launch.ssh.identity_file"),
    ("UNPROTECTED PRIVATE KEY", "login", "chmod 600 the private key"),
    ("invalid characters", "name", "give it a plain name in ~/.ssh/config (Host and HostName)"),
    ("Could not resolve hostname", "name", "correct the hostfile, or give it a HostName"),
    ("Bad configuration option", "ssh", "correct launch.ssh.options"),
    ("command-line line 0", "ssh", "correct launch.ssh.options"),
    ("Can't open user config file", "ssh", "correct launch.ssh.config_file"),
)


def complaint_of(reply: Reply, *, python: str, limit_s: float) -> Complaint:
    """Why there was no answer."""
    said = _last_words(reply.err)
    if reply.exit_code is None:
        return _late(reply, limit_s)
    if reply.exit_code == _SSH_FAILED:
        return _ssh_failed(reply.err, said)
    if said.startswith(OLD_PYTHON):
        least = ".".join(map(str, LEAST_PYTHON))
        version = said.removeprefix(OLD_PYTHON)
        problem = f"{python} is Python {version}; {least} or later is needed"
        return Complaint(check="python", problem=problem, instead=_VENV)
    if reply.exit_code in _NOT_FOUND:
        problem = f"{python} cannot be started: {said}" if said else f"{python}: not found"
        return Complaint(check="python", problem=problem, instead=_VENV)
    ended = f"exit code {reply.exit_code}"
    if reply.exit_code < 0:
        ended = signal.Signals(-reply.exit_code).name
    return Complaint(check="python", problem=f"no answer, {ended}: {said or 'nothing was said'}")


def _ssh_failed(err: str, said: str) -> Complaint:
    for words, check, instead in _SSH_WORDS:
        if words in err:
            return Complaint(check=check, problem=_saying(err, words), instead=instead)
    return Complaint(check="reach", problem=said or "ssh failed and did not say why")


def _late(reply: Reply, limit_s: float) -> Complaint:
    step = last_step(reply.err)
    if step is None:
        said = _last_words(reply.err)
        more = f": {said}" if said else ""
        return Complaint(check="reach", problem=f"no answer within {limit_s:g} s{more}")
    problem = f"no answer within {limit_s:g} s; it hangs at '{step}'"
    return Complaint(check=step.replace("_", " "), problem=problem)


def _saying(err: str, words: str) -> str:
    line = next(line for line in err.splitlines() if words in line)
    return line.strip(" @\r\t")[:_SHOWN_CHARACTERS]


def _last_words(err: str) -> str:
    lines = [line.strip() for line in err.splitlines() if line.strip()]
    return lines[-1][:_SHOWN_CHARACTERS] if lines else ""
