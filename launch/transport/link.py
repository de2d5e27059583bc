"""The channel on real sockets: the controller listens, agents dial.

A connection whose other side breaks the channel's rules is closed, and its owner is told why in one
line; nothing a stranger sends goes further than that. Writes never block: a peer that does not read
is cut off once it is `_BACKLOG_LIMIT_BYTES` behind.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar, cast

from launch import wire
from launch.codec import Family, Line, UnknownKindError, WireError
from launch.transport.channel import (
    HANDSHAKE_LINE_LIMIT_BYTES,
    LINE_LIMIT_BYTES,
    AgentHandshake,
    ChannelError,
    ControllerHandshake,
    LineSplitter,
    Session,
)
from launch.transport.reactor import Reactor

_HANDSHAKE_LIMIT_S = 10.0
_BACKLOG_LIMIT_BYTES = 64 << 20
_READ_BYTES = 1 << 16
_BACKLOG_CONNECTIONS = 1024  # agents of a large run dial at once
_CLOSED_BY_PEER = "closed by the other side"

L = TypeVar("L", bound=Line)
L_contra = TypeVar("L_contra", bound=Line, contravariant=True)


class LinkOwner(Protocol[L_contra]):
    """Who is told what happens on a link; `lost` comes once for each `opened`, after it."""

    def opened(self, link: "Link") -> None:
        """The other side has proved that it knows the secret."""

    def received(self, link: "Link", record: L_contra) -> None:
        """A record arrived."""

    def skipped(self, link: "Link", reason: str) -> None:
        """A record of a kind we do not know arrived."""

    def lost(self, link: "Link", reason: str) -> None:
        """The connection is gone."""

    def refused(self, reason: str) -> None:
        """A connection ended before its other side proved anything."""


class Link(Protocol):
    """One authenticated connection."""

    def send(self, record: Line) -> None:
        """Send a record, or drop it when the connection is gone."""

    def close(self, reason: str) -> None:
        """Cut the connection; `lost` follows with this reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where the controller listens; port 0 takes a free one."""

    host: str
    port: int


def listen(
    reactor: Reactor, *, address: Address, secret: str, owner: LinkOwner[wire.ToController]
) -> int:
    """Listen for agents until the reactor closes; the port's number.

    Raises:
        OSError: the port cannot be had.
    """

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        socket_side = _Socket(reader, writer)
        reactor.spawn(
            _converse(
                socket_side, _challenge(socket_side, secret), _Inbox(owner, wire.TO_CONTROLLER)
            )
        )

    starting = asyncio.start_server(
        connected, address.host, address.port, backlog=_BACKLOG_CONNECTIONS
    )
    server = reactor.loop.run_until_complete(starting)
    reactor.at_close(server.close)
    return cast("int", server.sockets[0].getsockname()[1])  # typeshed says Any


def dial(
    reactor: Reactor, *, address: Address, secret: str, owner: LinkOwner[wire.ToAgent]
) -> None:
    """Connect to the controller; its `opened` or `refused` follows."""

    async def connect() -> None:
        try:
            async with asyncio.timeout(_HANDSHAKE_LIMIT_S):
                reader, writer = await asyncio.open_connection(address.host, address.port)
        except OSError as error:  # a timeout is one, too
            owner.refused(str(error) or f"no answer within {_HANDSHAKE_LIMIT_S:g} s")
            return
        socket_side = _Socket(reader, writer)
        await _converse(socket_side, _respond(socket_side, secret), _Inbox(owner, wire.TO_AGENT))

    reactor.spawn(connect())


@dataclass(slots=True)
class Reserved:
    """A port that is ours as long as the socket is bound; it listens to nothing."""

    holder: socket.socket

    @property
    def port(self) -> int:
        """The number."""
        return cast("int", self.holder.getsockname()[1])  # typeshed says Any

    def release(self) -> None:
        """Let the rank that was told the number have it."""
        self.holder.close()


def reserve_port(port: int | None) -> Reserved:
    """Bind a port on all interfaces, any one for None; an OSError says that it is in use."""
    holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        holder.bind(("", port or 0))
    except OSError:
        holder.close()
        raise
    return Reserved(holder)


class _Socket:
    """A connection's lines, before anything is proven."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.transport = writer.transport
        self._splitter = LineSplitter(limit_bytes=HANDSHAKE_LINE_LIMIT_BYTES)
        self._lines: deque[bytes] = deque()
        name = writer.get_extra_info("peername")
        self.peer = f"{name[0]}:{name[1]}" if name else "unknown"

    async def line(self) -> bytes:
        """The next line; raises ChannelError at the end and past the limit."""
        while not self._lines:
            data = await self._reader.read(_READ_BYTES)
            if not data:
                raise ChannelError(reason=_CLOSED_BY_PEER)
            self._lines.extend(self._splitter.feed(data))
        return self._lines.popleft()

    def trust(self) -> None:
        """Take long lines from now on."""
        self._splitter.limit_bytes = LINE_LIMIT_BYTES


class _ProvenLink:
    """A link once both sides are proven."""

    def __init__(self, transport: asyncio.WriteTransport, session: Session) -> None:
        self._transport = transport
        self._session = session
        self.closed_because: str | None = None

    def send(self, record: Line) -> None:
        if self.closed_because is not None:
            return
        body = wire.encode(record).decode().rstrip("\n")
        self._transport.write(self._session.seal(body))
        if self._transport.get_write_buffer_size() > _BACKLOG_LIMIT_BYTES:
            self.close(f"it is {_BACKLOG_LIMIT_BYTES >> 20} MiB behind in reading")

    def close(self, reason: str) -> None:
        if self.closed_because is None:
            self.closed_because = reason
            self._transport.abort()


@dataclass(frozen=True, slots=True)
class _Inbox(Generic[L]):
    """Whose the records are, and which are expected."""

    owner: LinkOwner[L]
    family: Family[L]

    def take(self, link: Link, body: str) -> None:
        try:
            record = wire.decode(body, self.family)
        except UnknownKindError as error:
            self.owner.skipped(link, str(error))
        except WireError as error:
            raise ChannelError(reason=str(error)) from None
        else:
            self.owner.received(link, record)


async def _converse(
    lines: _Socket, handshake: Coroutine[None, None, Session], inbox: _Inbox[L]
) -> None:
    """A connection's life: prove, then read until it ends."""
    try:
        async with asyncio.timeout(_HANDSHAKE_LIMIT_S):
            session = await handshake
    except (ChannelError, OSError) as error:
        inbox.owner.refused(f"{lines.peer}: {_reason(error)}")
    else:
        lines.trust()
        link = _ProvenLink(lines.transport, session)
        inbox.owner.opened(link)
        reason = await _read_until_end(lines, link, session, inbox)
        inbox.owner.lost(link, link.closed_because or reason)
    finally:
        lines.transport.abort()


async def _read_until_end(
    lines: _Socket, link: _ProvenLink, session: Session, inbox: _Inbox[L]
) -> str:
    try:
        while link.closed_because is None:
            line = await lines.line()
            if link.closed_because is None:
                inbox.take(link, session.open(line))
    except (ChannelError, OSError) as error:
        return _reason(error)
    return _CLOSED_BY_PEER


async def _challenge(lines: _Socket, secret: str) -> Session:
    handshake = ControllerHandshake(secret=secret)
    lines.transport.write(handshake.challenge())
    accepted, session = handshake.accept(await lines.line())
    lines.transport.write(accepted)
    return session


async def _respond(lines: _Socket, secret: str) -> Session:
    handshake = AgentHandshake(secret=secret)
    lines.transport.write(handshake.respond(await lines.line()))
    return handshake.confirm(await lines.line())


def _reason(error: ChannelError | OSError) -> str:
    return str(error) or "no handshake in time"
