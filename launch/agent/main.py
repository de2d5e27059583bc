"""The agent program: `python3 -S -P agent.pyz --connect HOST:PORT ...`; see docs/protocols.md."""

import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from launch.agent.agent import Agent, AgentEnd
from launch.agent.environment import AGENT_MARKER
from launch.agent.options import AgentOptions, parse_options
from launch.agent.ranks import Ranks
from launch.agent.words import Words
from launch.clock import SystemClock
from launch.transport.link import dial
from launch.transport.processes import processes_with, signal_process
from launch.transport.reactor import Reactor
from launch.transport.warden import outlive

_LEFTOVER_CHECK_S = 0.02
_LEFTOVER_LIMIT_S = 10.0


def main() -> NoReturn:
    """Run an agent until its controller dismisses it or is silent for a lease."""
    options = parse_options(sys.argv[1:])
    outlive(lambda: _work(options))


def _work(options: AgentOptions) -> int:
    reactor = Reactor()
    clock = SystemClock()
    words = Words(sys.stderr.fileno())
    ends: list[AgentEnd] = []

    def end(why: AgentEnd) -> None:
        ends.append(why)
        reactor.stop()

    agent = Agent(
        options=options,
        clock=clock,
        timers=reactor,
        dial=lambda owner: dial(
            reactor, address=options.controller, secret=options.secret, owner=owner
        ),
        say=words.say,
        end=end,
    )
    ranks = Ranks(
        reactor=reactor,
        marker=options.marker,
        slots=options.slots,
        clock=clock,
        report=agent.report,
        say=words.say,
    )
    reactor.on_signal(signal.SIGTERM, lambda: end(AgentEnd.LEFT))
    for number in (signal.SIGINT, signal.SIGHUP):  # for the controller, which will tell us
        reactor.on_signal(number, _ignore)
    _clear_leftovers(options, reactor, then=lambda: agent.begin(ranks))
    try:
        reactor.run()
    finally:
        ranks.end()
        reactor.close()
    return ends[-1]


def _ignore() -> None:
    """Do nothing; unlike SIG_IGN a handler is not inherited by the ranks."""


def _clear_leftovers(options: AgentOptions, reactor: Reactor, *, then: Callable[[], None]) -> None:
    """Kill what an earlier life of this agent left, and go on once it is gone."""
    clock = SystemClock()
    until_s = clock.monotonic_s() + _LEFTOVER_LIMIT_S

    def check() -> None:
        leftovers = processes_with(AGENT_MARKER, options.marker)
        for pid in leftovers:
            signal_process(pid, signal.SIGKILL)
        if not leftovers:
            then()
        elif clock.monotonic_s() > until_s:
            sys.exit(f"agent: processes {leftovers} of an earlier generation do not die")
        else:
            reactor.call_after(_LEFTOVER_CHECK_S, check)

    reactor.call_soon(check)
