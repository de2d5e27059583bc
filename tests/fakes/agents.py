"""Agents that a launcher would start: no process, only what becomes of it."""

from collections.abc import Callable

from launch.supervisor.roster import AgentCall
from launch.transport.processes import StartError


class FakeAgentProcess:
    def __init__(self, ended: Callable[[str], None]) -> None:
        self.is_killed = False
        self.end = ended  # called by a test when the process is to be gone

    def kill(self) -> None:
        self.is_killed = True


class FakeStarter:
    def __init__(self) -> None:
        self.started: list[FakeAgentProcess] = []
        self.calls: list[AgentCall] = []
        self.problem: str | None = None

    def start(self, call: AgentCall, *, reactor: object, ended: Callable) -> FakeAgentProcess:
        del reactor  # there is no process to watch
        self.calls.append(call)
        if self.problem is not None:
            raise StartError(program="python3", why=self.problem)
        self.started.append(FakeAgentProcess(ended))
        return self.started[-1]

    def adopt(self, call: AgentCall, *, reactor: object, ended: Callable) -> FakeAgentProcess:
        del reactor
        self.calls.append(call)
        self.started.append(FakeAgentProcess(ended))
        return self.started[-1]
