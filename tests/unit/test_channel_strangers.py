"""The real listener and whoever knocks: nonsense, forgeries, replays, floods, true agents."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from launch import wire
from launch.transport.channel import AgentHandshake, Session
from launch.transport.link import Address, listen
from launch.transport.reactor import Reactor
from launch.wire import Beat

SECRET = "5e" * 32
LIMIT_S = 20.0
BEAT = wire.encode(Beat(monotonic_s=1.0, ranks=())).decode().rstrip("\n")
FEW = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class Door:
    """A listener in a thread of its own, and what its owner was told."""

    def __init__(self) -> None:
        self.told = threading.Condition()
        self.refusals: list[str] = []
        self.losses: list[str] = []
        self.records: list[object] = []
        self.reactor = Reactor()
        self.port = listen(
            self.reactor,
            address=Address(host="127.0.0.1", port=0),
            secret=SECRET,
            owner=self,
            most_strangers=512,
        )
        self.thread = threading.Thread(target=self.reactor.run)
        self.thread.start()

    def opened(self, _) -> None:
        """The first record says who it is."""

    def received(self, _, record) -> None:
        self._note(self.records, record)

    def skipped(self, _, reason) -> None:
        self._note(self.records, reason)

    def lost(self, _, reason) -> None:
        self._note(self.losses, reason)

    def refused(self, reason) -> None:
        self._note(self.refusals, reason)

    def wait(self, list_: list, count: int) -> None:
        """Wait until so many have been told."""
        with self.told:
            assert self.told.wait_for(lambda: len(list_) >= count, timeout=LIMIT_S), list_[-3:]

    def close(self) -> None:
        self.reactor.loop.call_soon_threadsafe(self.reactor.stop)
        self.thread.join()
        self.reactor.close()

    def _note(self, list_: list, what: object) -> None:
        with self.told:
            list_.append(what)
            self.told.notify_all()


@pytest.fixture(scope="module")
def open_door() -> Iterator[Door]:
    door = Door()
    yield door
    door.close()


@pytest.fixture
def door(open_door: Door) -> Door:
    """The listener; each test counts from none."""
    with open_door.told:
        for list_ in (open_door.refusals, open_door.losses, open_door.records):
            list_.clear()
    return open_door


def knock(door: Door) -> socket.socket:
    return socket.create_connection(("127.0.0.1", door.port), timeout=LIMIT_S)


def proven(stranger: socket.socket) -> Session:
    """Shake hands as an agent does."""
    lines = stranger.makefile("rb")
    handshake = AgentHandshake(secret=SECRET)
    stranger.sendall(handshake.respond(lines.readline().rstrip(b"\n")))
    return handshake.confirm(lines.readline().rstrip(b"\n"))


def is_shut(stranger: socket.socket) -> bool:
    """Read to the end, which must come."""
    try:
        while stranger.recv(65_536):
            continue
    except ConnectionResetError:
        return True
    return True


def test_an_agent_that_knows_the_secret_is_heard(door) -> None:
    with knock(door) as agent:
        agent.sendall(proven(agent).seal(BEAT))
        door.wait(door.records, 1)

    assert door.records == [Beat(monotonic_s=1.0, ranks=())]


@FEW
@given(st.binary(max_size=3_000).map(lambda data: data + b"\n"))
@example(b"GET / HTTP/1.1\r\n\r\n")
@example(b"x" * 5_000)
@example(b'{"kind":"response","nonce":"00","proof":"00"}\n')
@example(b'{"kind":"accepted","proof":"00"}\n')
@example(b'{"kind":"challenge","protocol":1,"nonce":"00"}\n')
@example(b"[" * 1_000 + b"\n")
@example(b'{"kind":"response","nonce":"\\ud800","proof":"\\ud800"}\n')
def test_nonsense_is_refused_and_told_in_one_line(door, nonsense: bytes) -> None:
    before = len(door.refusals)
    with knock(door) as stranger:
        stranger.sendall(nonsense)

        assert is_shut(stranger)
    door.wait(door.refusals, before + 1)
    assert len(door.refusals) == before + 1
    assert "\n" not in door.refusals[-1]
    assert len(door.refusals[-1]) < 500
    assert door.records == []


@FEW
@given(st.sampled_from(["flip", "replay", "skip", "swap", "reflect"]), st.integers(0, 10_000))
def test_a_line_that_was_tampered_with_ends_the_connection(door, how: str, where: int) -> None:
    heard, lost = len(door.records), len(door.losses)
    with knock(door) as agent:
        session = proven(agent)
        good, other = session.seal(BEAT), session.seal(BEAT)
        bad = tampered(how, good, other, where)
        agent.sendall(good + bad)

        assert is_shut(agent)
    door.wait(door.losses, lost + 1)
    assert len(door.records) == heard + 1


def tampered(how: str, good: bytes, other: bytes, where: int) -> bytes:
    """What may not be believed after `good`, though its sender knew the secret once."""
    if how == "flip":
        # Not the newline: without it the line would only wait for its end.
        at = where % (len(other) - 1)
        changed = bytearray(other)
        changed[at] = changed[at] ^ 1
        return bytes(changed).replace(b"\n", b"?")[: len(other) - 1] + b"\n"
    if how == "replay":
        return good
    if how == "skip":
        return _with(other, seq=3)
    if how == "swap":
        return _with(good, seq=2)
    return _with(other, mac=json.loads(good)["mac"])


def _with(line: bytes, **changes: object) -> bytes:
    return json.dumps(json.loads(line) | changes).encode() + b"\n"


def test_a_line_recorded_on_another_connection_is_worthless(door) -> None:
    with knock(door) as first:
        recorded = proven(first).seal(BEAT)
    with knock(door) as second:
        proven(second)
        second.sendall(recorded)

        assert is_shut(second)
    door.wait(door.losses, 2)
    assert "wrong MAC" in door.losses
    assert door.records == []


def test_a_recorded_handshake_cannot_be_played_again(door) -> None:
    with knock(door) as agent:
        answer = AgentHandshake(secret=SECRET).respond(agent.makefile("rb").readline().rstrip())
        agent.sendall(answer)
    with knock(door) as stranger:
        stranger.sendall(answer)

        assert is_shut(stranger)
    door.wait(door.refusals, 1)
    assert door.refusals[-1].endswith("wrong proof")


def test_an_endless_line_is_cut_at_its_limit_even_from_an_agent(door) -> None:
    with knock(door) as agent:
        proven(agent)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            agent.sendall(b"x" * 50_000_000)
    door.wait(door.losses, 1)

    assert door.losses == ["line past 1048576 bytes"]


def test_a_flood_of_silent_strangers_keeps_no_agent_out(door) -> None:
    """More than the door lets wait; the first of them are cut, an agent is heard among them."""
    strangers = [knock(door) for _ in range(600)]
    try:
        with knock(door) as agent:
            agent.sendall(proven(agent).seal(BEAT))
            door.wait(door.records, 1)
        door.wait(door.refusals, 80)
    finally:
        for stranger in strangers:
            stranger.close()

    assert "more than 512 strangers wait" in door.refusals[0]


SHOUT = """
import socket, sys
print("shouting", flush=True)
for _ in range(3_000):
    with socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=60) as stranger:
        try:
            stranger.sendall(b"x" * 2_000)
        except ConnectionError:
            pass
"""


def test_agents_are_heard_while_strangers_shout(door) -> None:
    """One who is here already, and one who comes meanwhile."""
    command = [sys.executable, "-I", "-S", "-c", SHOUT, str(door.port)]
    with knock(door) as old, subprocess.Popen(command, stdout=subprocess.PIPE) as shouter:
        try:
            session = proven(old)
            shouter.stdout.readline()
            door.wait(door.refusals, 20)
            for count in range(1, 11):
                old.sendall(session.seal(BEAT))
                door.wait(door.records, count)
            with knock(door) as new:
                new.sendall(proven(new).seal(BEAT))
                door.wait(door.records, 11)
            refused_by_then = len(door.refusals)
        finally:
            shouter.kill()

    assert refused_by_then < 3_000  # or nobody shouted any more
    assert len(door.records) == 11
