"""The preflight over ssh: every host is asked at the same time, and all findings are told at once.

In each shared folder this machine writes a file that the host reads, and the host writes one
that this machine reads. A socket listens where the controller will, so that each host can show
that it reaches it.
"""

import secrets
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from launch.clock import SystemClock
from launch.launchers.ssh.command import PROBE, order_text, ssh_argv
from launch.launchers.ssh.complaints import complaint_of
from launch.preflight.answers import answers_in
from launch.preflight.checks import HostView, findings
from launch.request import HostSlots, LaunchRequest, PreflightTerms, SshStart
from launch.run_directory import RunDirectory
from launch.transport.many import Question, Reply, ask_many
from orchestrator.errors import HostError, HostFinding, PreflightFailed, StorageError

_WAITING_CONNECTIONS = 4096  # the kernel takes them: nobody has to accept what hosts dial


def inspect(request: LaunchRequest, start: SshStart, directory: RunDirectory) -> str:
    """Look at every host before anything starts; a sentence for people.

    Raises:
        PreflightFailed: hosts cannot take part.
        HostError: the controller's own port or address cannot be had.
        StorageError: a shared folder cannot be written here.
    """
    if request.preflight is None:
        return "no preflight was asked for"
    clock = SystemClock()
    began_s = clock.monotonic_s()
    with _listening(request) as port, _tokens(request, start, directory) as tokens:
        round_ = _Round(
            request=request, start=start, terms=request.preflight, tokens=tokens, port=port
        )
        replies = ask_many(
            [round_.question(number) for number in range(len(request.hosts))],
            at_once=start.parallel,
            wall_s=clock.wall_s,
        )
        found = [
            finding
            for number, reply in enumerate(replies)
            for finding in round_.findings(number, reply)
        ]
    if found:
        raise PreflightFailed(findings=found, num_hosts=len(request.hosts))
    took_s = clock.monotonic_s() - began_s
    return f"preflight: {len(request.hosts)} hosts are ready, looked at in {took_s:.1f} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tokens:
    """The files by which folders show that they are shared; `folders` begin with the run's own."""

    folders: tuple[Path, ...]
    token: str

    @property
    def file(self) -> str:
        """What this machine writes."""
        return f".llmorch-shared-{self.token[:16]}"

    def answer_file(self, number: int) -> str:
        """What a host writes."""
        return f"{self.file}-{number}"

    def unseen(self, number: int) -> frozenset[str]:
        """The folders in which a host's answer is not to be seen here."""
        return frozenset(
            str(folder) for folder in self.folders if not self._is_seen(folder, number)
        )

    def _is_seen(self, folder: Path, number: int) -> bool:
        try:
            return (folder / self.answer_file(number)).read_text() == self.token
        except OSError:
            return False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Round:
    """One preflight."""

    request: LaunchRequest
    start: SshStart
    terms: PreflightTerms
    tokens: _Tokens
    port: int

    def question(self, number: int) -> Question:
        """What a host is asked."""
        request = self.request
        order = {
            "packages": [name for name, _ in self.terms.packages],
            "programs": sorted(self._programs()),
            "folder": self.start.working_folder,
            "shared": [str(folder) for folder in self.tokens.folders],
            "token": self.tokens.token,
            "token_file": self.tokens.file,
            "answer_file": self.tokens.answer_file(number),
            "controller": [request.controller_host, self.port],
            "port": request.rendezvous_port if number == 0 else None,
            "rendezvous": request.hosts[0].address,
            "gpus": self.terms.gpus,
            "run": str(self.tokens.folders[0]),
        }
        return Question(
            argv=ssh_argv(self.start, request.hosts[number]),
            text=order_text(PROBE, order),
            timeout_s=self.terms.timeout_s,
        )

    def findings(self, number: int, reply: Reply) -> Sequence[HostFinding]:
        """What stands in a host's way."""
        host = self.request.hosts[number]
        answers = answers_in(reply.out)
        if answers is None:
            return [self._silence(host, reply)]
        view = HostView(
            name=host.name,
            answers=answers,
            asked_s=reply.began_s,
            answered_s=reply.ended_s,
            unseen=self.tokens.unseen(number),
            request=self.request,
            terms=self.terms,
        )
        return list(findings(view))

    def _silence(self, host: HostSlots, reply: Reply) -> HostFinding:
        complaint = complaint_of(reply, python=self.start.python, limit_s=self.terms.timeout_s)
        return HostFinding(
            host=host.name,
            check=complaint.check,
            problem=complaint.problem,
            instead=complaint.instead,
        )

    def _programs(self) -> set[str]:
        """Return the commands' programs, as far as they are paths."""
        commands = (self.request.argv, *self.request.prepare)
        return {command[0] for command in commands if "/" in command[0] and "{" not in command[0]}


@contextmanager
def _listening(request: LaunchRequest) -> Iterator[int]:
    """Listen where the controller will; the port."""
    host, port = request.controller_host, request.controller_port or 0
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=_WAITING_CONNECTIONS)
    except OSError as error:
        problem = f"the controller cannot listen on port {port or 'any'}: {_reason(error)}"
        instead = "set launch.controller_host, launch.controller_port to what is free here"
        raise HostError(host=host, problem=problem, instead=instead) from None
    with listener:
        yield int(listener.getsockname()[1])


@contextmanager
def _tokens(request: LaunchRequest, start: SshStart, directory: RunDirectory) -> Iterator[_Tokens]:
    """Write the files that hosts are to read; all are removed in the end."""
    folders = [directory.path]
    if request.prepare:  # the first host makes there what all will read
        folders.append(Path(start.working_folder))
    tokens = _Tokens(folders=tuple(folders), token=secrets.token_hex(16))
    try:
        for folder in folders:
            try:
                (folder / tokens.file).write_text(tokens.token)
            except OSError as error:
                raise StorageError(path=str(folder), problem=_reason(error)) from None
        yield tokens
    finally:
        for folder in folders:
            for path in folder.glob(f"{tokens.file}*"):
                path.unlink(missing_ok=True)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
