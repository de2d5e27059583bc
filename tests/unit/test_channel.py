"""The authenticated channel, message by message."""

import json

import pytest

from launch.transport.channel import (
    AgentHandshake,
    ChannelError,
    ControllerHandshake,
    LineSplitter,
    Session,
)

SECRET = "5e" * 32


def shaken(*, controller_secret: str = SECRET, agent_secret: str = SECRET):
    controller = ControllerHandshake(secret=controller_secret, nonce="c" * 32)
    agent = AgentHandshake(secret=agent_secret, nonce="a" * 32)
    answer = agent.respond(stripped(controller.challenge()))
    accepted, session = controller.accept(stripped(answer))
    return session, agent.confirm(stripped(accepted))


def stripped(line: bytes) -> bytes:
    return line.removesuffix(b"\n")


@pytest.fixture
def ends() -> tuple[Session, Session]:
    return shaken()


def test_both_sides_that_know_the_secret_can_talk_both_ways(ends) -> None:
    controller, agent = ends

    assert controller.open(stripped(agent.seal("up"))) == "up"
    assert agent.open(stripped(controller.seal("down"))) == "down"


def test_an_agent_without_the_secret_is_refused() -> None:
    with pytest.raises(ChannelError, match="wrong proof"):
        shaken(agent_secret="guess")


def test_a_controller_without_the_secret_is_refused() -> None:
    agent = AgentHandshake(secret=SECRET)
    false = ControllerHandshake(secret="guess")
    agent.respond(stripped(false.challenge()))

    with pytest.raises(ChannelError, match="wrong proof"):
        agent.confirm(b'{"kind":"accepted","proof":"00"}')


def test_a_controller_cannot_be_played_with_its_own_proof() -> None:
    """Reflection: the agent's proof sent back as the controller's must not do."""
    agent = AgentHandshake(secret=SECRET, nonce="a" * 32)
    answer = json.loads(agent.respond(b'{"kind":"challenge","protocol":1,"nonce":"cc"}'))

    with pytest.raises(ChannelError, match="wrong proof"):
        agent.confirm(json.dumps({"kind": "accepted", "proof": answer["proof"]}).encode())


def test_another_protocol_is_refused_by_its_number() -> None:
    with pytest.raises(ChannelError, match="protocol 2, not 1"):
        AgentHandshake(secret=SECRET).respond(b'{"kind":"challenge","protocol":2,"nonce":"cc"}')


def test_a_replayed_line_is_refused(ends) -> None:
    controller, agent = ends
    line = stripped(agent.seal("once"))
    controller.open(line)

    with pytest.raises(ChannelError, match="line 1 where 2 was due"):
        controller.open(line)


def test_a_skipped_line_is_noticed(ends) -> None:
    controller, agent = ends
    agent.seal("lost on the way")

    with pytest.raises(ChannelError, match="line 2 where 1 was due"):
        controller.open(stripped(agent.seal("next")))


def test_a_line_is_worthless_on_another_connection(ends) -> None:
    _, agent = ends
    fresh = ControllerHandshake(secret=SECRET)
    peer = AgentHandshake(secret=SECRET)
    _, other = fresh.accept(stripped(peer.respond(stripped(fresh.challenge()))))

    with pytest.raises(ChannelError, match="wrong MAC"):
        other.open(stripped(agent.seal("recorded")))


def test_a_line_cannot_be_reflected_to_its_sender(ends) -> None:
    _, agent = ends

    with pytest.raises(ChannelError, match="wrong MAC"):
        agent.open(stripped(agent.seal("mirror")))


@pytest.mark.parametrize(
    "line",
    [b"", b"GET / HTTP/1.1\r", b"{}", b'{"seq":1,"mac":"x"}', b'{"seq":"1","mac":"x","body":"y"}'],
    ids=["empty", "http", "no fields", "no body", "text number"],
)
def test_text_that_is_no_sealed_line_is_refused(ends, line: bytes) -> None:
    with pytest.raises(ChannelError):
        ends[0].open(line)


def test_a_lone_surrogate_does_not_pass_for_a_question_mark(ends) -> None:
    controller, agent = ends
    line = agent.seal("what?").decode().replace("what?", "what\\ud800")

    with pytest.raises(ChannelError, match="wrong MAC"):
        controller.open(stripped(line.encode()))


def test_a_line_past_the_limit_is_refused_before_it_ends() -> None:
    splitter = LineSplitter(limit_bytes=16)

    with pytest.raises(ChannelError, match="line past 16 bytes"):
        list(splitter.feed(b"x" * 16))


def test_a_long_line_does_not_hide_behind_its_newline() -> None:
    splitter = LineSplitter(limit_bytes=16)

    with pytest.raises(ChannelError, match="line past 16 bytes"):
        list(splitter.feed(b"x" * 30 + b"\n"))


def test_the_secret_is_in_no_line_of_the_handshake() -> None:
    controller, agent = ControllerHandshake(secret=SECRET), AgentHandshake(secret=SECRET)
    challenge = controller.challenge()
    answer = agent.respond(stripped(challenge))
    accepted, session = controller.accept(stripped(answer))

    for line in (challenge, answer, accepted, session.seal("body")):
        assert SECRET.encode() not in line
