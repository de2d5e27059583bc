"""The authenticated line channel of docs/protocols.md, without any socket.

Theory of operation. A connection is first a handshake of three clear lines, in which both sides
prove that they know the run's secret by an HMAC over both nonces; then a `Session`, in which each
line carries a number and an HMAC over direction, number and body. The nonces make the session key
new for each connection, so a line recorded on one connection is worthless on another; the number
makes a repeated, dropped or swapped line visible; the direction keeps a line from being reflected.
Whatever is wrong raises `ChannelError`, and its owner closes the connection: there is no second
chance on the same connection and nothing to guess from the answer.
"""

import hmac
import secrets
from collections.abc import Iterator
from enum import StrEnum
from hashlib import sha256

from launch import wire
from launch.codec import WireError, parse, text
from launch.wire import HANDSHAKE, Accepted, Challenge, Handshake, Response

LINE_LIMIT_BYTES = 1 << 20
HANDSHAKE_LINE_LIMIT_BYTES = 1024
_NONCE_BYTES = 16


class ChannelError(Exception):
    """The other side broke the channel's rules; `reason` is one line for the log."""

    def __init__(self, *, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class Direction(StrEnum):
    """Who sends."""

    AGENT = "a"
    CONTROLLER = "c"


class LineSplitter:
    """Turns chunks of bytes into lines of at most `limit_bytes`, newline included."""

    def __init__(self, *, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The complete lines, without newlines; a line past the limit raises ChannelError."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in (*lines, self._rest):
            if len(line) >= self.limit_bytes:
                raise ChannelError(reason=f"line past {self.limit_bytes} bytes")
        yield from lines


class Session:
    """Seals outgoing and opens incoming bodies after a handshake."""

    def __init__(self, *, key: bytes, sends: Direction) -> None:
        self._key = key
        self._sends = sends
        self._receives = next(d for d in Direction if d is not sends)
        self._sent = 0
        self._received = 0

    def seal(self, body: str) -> bytes:
        """The line that carries `body`, with its newline."""
        seq = self._sent + 1
        mac = _line_mac(self._key, self._sends, seq, body)
        line = text({"seq": seq, "mac": mac, "body": body}).encode() + b"\n"
        if len(line) > LINE_LIMIT_BYTES:
            raise WireError(problem=f"sealed line of {len(line)} bytes", field="body")
        self._sent = seq
        return line

    def open(self, line: bytes) -> str:
        """The body of the next line from the other side."""
        try:
            sealed = parse(line)
        except WireError as error:
            raise ChannelError(reason=error.problem) from None
        match sealed:
            case {"seq": int(seq), "mac": str(mac), "body": str(body)}:
                self._check(seq, mac, body)
                return body
            case _:
                raise ChannelError(reason="not a sealed line")

    def _check(self, seq: int, mac: str, body: str) -> None:
        if not _same(mac, _line_mac(self._key, self._receives, seq, body)):
            raise ChannelError(reason="wrong MAC")
        if seq != self._received + 1:
            raise ChannelError(reason=f"line {seq} where {self._received + 1} was due")
        self._received = seq


class ControllerHandshake:
    """The listening side: it challenges, checks the answer, and proves itself."""

    def __init__(self, *, secret: str, nonce: str | None = None) -> None:
        self._secret = secret
        self._nonce = nonce or secrets.token_hex(_NONCE_BYTES)

    def challenge(self) -> bytes:
        """The first line of a connection."""
        return wire.encode(Challenge(protocol=wire.PROTOCOL_VERSION, nonce=self._nonce))

    def accept(self, line: bytes) -> tuple[bytes, Session]:
        """Check the agent's response; the accepting line and the session it opens."""
        response = _handshake_line(line)
        if not isinstance(response, Response):
            raise ChannelError(reason=f"{response.KIND} where a response was due")
        nonces = (self._nonce, response.nonce)
        if not _same(response.proof, _proof(self._secret, "agent", nonces)):
            raise ChannelError(reason="wrong proof")
        accepted = wire.encode(Accepted(proof=_proof(self._secret, "controller", nonces)))
        return accepted, _session(self._secret, nonces, sends=Direction.CONTROLLER)


class AgentHandshake:
    """The dialling side: it answers the challenge and checks the controller's proof."""

    def __init__(self, *, secret: str, nonce: str | None = None) -> None:
        self._secret = secret
        self._nonce = nonce or secrets.token_hex(_NONCE_BYTES)
        self._nonces: tuple[str, str] | None = None

    def respond(self, line: bytes) -> bytes:
        """The answer to a challenge."""
        challenge = _handshake_line(line)
        if not isinstance(challenge, Challenge):
            raise ChannelError(reason=f"{challenge.KIND} where a challenge was due")
        if challenge.protocol != wire.PROTOCOL_VERSION:
            raise ChannelError(reason=f"protocol {challenge.protocol}, not {wire.PROTOCOL_VERSION}")
        self._nonces = (challenge.nonce, self._nonce)
        proof = _proof(self._secret, "agent", self._nonces)
        return wire.encode(Response(nonce=self._nonce, proof=proof))

    def confirm(self, line: bytes) -> Session:
        """Check that the controller knows the secret, too; the session it opens."""
        accepted = _handshake_line(line)
        if self._nonces is None or not isinstance(accepted, Accepted):
            raise ChannelError(reason=f"{accepted.KIND} where it was not due")
        if not _same(accepted.proof, _proof(self._secret, "controller", self._nonces)):
            raise ChannelError(reason="wrong proof")
        return _session(self._secret, self._nonces, sends=Direction.AGENT)


def _handshake_line(line: bytes) -> Handshake:
    try:
        return wire.decode(line, HANDSHAKE)
    except WireError as error:
        raise ChannelError(reason=str(error)) from None


def _session(secret: str, nonces: tuple[str, str], *, sends: Direction) -> Session:
    return Session(key=_derive(secret, "session", nonces), sends=sends)


def _proof(secret: str, who: str, nonces: tuple[str, str]) -> str:
    return _derive(secret, who, nonces).hex()


def _derive(secret: str, purpose: str, nonces: tuple[str, str]) -> bytes:
    signed = "|".join((purpose, *nonces))
    return hmac.digest(secret.encode(), signed.encode(errors="surrogatepass"), sha256)


def _line_mac(key: bytes, direction: Direction, seq: int, body: str) -> str:
    signed = f"{direction}:{seq}:{body}"
    # A stranger may send lone surrogates; each must stay itself, or two bodies would share a MAC.
    return hmac.digest(key, signed.encode(errors="surrogatepass"), sha256).hex()


def _same(given: str, expected: str) -> bool:
    """Compare in constant time; as bytes, because a stranger's text need not be ASCII."""
    return hmac.compare_digest(given.encode(errors="surrogatepass"), expected.encode())
