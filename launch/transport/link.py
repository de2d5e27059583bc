"""The channel on real sockets: the controller listens, agents dial.

A connection whose other side breaks the channel's rules is closed, and its owner is told why in one
line; nothing a stranger sends goes further than that. Writes never block: a peer that does not read
is cut off once it is `_BACKLOG_LIMIT_BYTES` behind.
"""

import asyncio
import resource
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
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

_HANDSHAKE_LIMIT_S = 10.0  # of a stranger
_CONNECT_LIMIT_S = 10.0
_ANSWER_LIMIT_S = 60.0  # of a controller at whose door thousands of agents stand
_BACKLOG_LIMIT_BYTES = 64 << 20
_READ_BYTES = 1 << 16
_BACKLOG_CONNECTIONS = 4096  # agents of a large run dial at once
_ACCEPTED_AT_ONCE = 16  # before those who are here already are heard again
_MOST_STRANGERS = 4096
_MOST_DESCRIPTORS = 1 << 16
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
    reactor: Reactor,
    *,
    address: Address,
    secret: str,
    owner: LinkOwner[wire.ToListener],
    most_strangers: int | None = None,
) -> int:
    """Listen for agents and visitors until the reactor closes; the port's number.

    At most `most_strangers` connections that have proved nothing are kept; by default as many as
    half of our descriptors, and 4096.

    Raises:
        OSError: the port cannot be had.
    """
    descriptors = _allow_many_connections()
    strangers = _Strangers(most_strangers or min(_MOST_STRANGERS, descriptors // 2))

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = _Socket(reader, writer)

        async def prove() -> Session:
            with strangers.one_more(lines):
                return await _challenge(lines, secret)

        reactor.spawn(_converse(lines, prove, _Inbox(owner, wire.TO_LISTENER)))

    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    door = socket.create_server((address.host, address.port), family=family)
    starting = asyncio.start_server(connected, sock=door, backlog=_ACCEPTED_AT_ONCE)
    server = reactor.loop.run_until_complete(starting)
    door.listen(_BACKLOG_CONNECTIONS)  # asyncio has one number for both; how many wait is ours
    reactor.at_close(server.close)
    return cast("int", door.getsockname()[1])  # typeshed says Any


def dial(
    reactor: Reactor, *, address: Address, secret: str, owner: LinkOwner[wire.ToAgent]
) -> None:
    """Connect an agent to the controller; its `opened` or `refused` follows."""
    _dial(reactor, address, secret, inbox=_Inbox(owner, wire.TO_AGENT))


def visit(
    reactor: Reactor, *, address: Address, secret: str, owner: LinkOwner[wire.ToVisitor]
) -> None:
    """Connect a visitor to the controller; its `opened` or `refused` follows."""
    _dial(reactor, address, secret, inbox=_Inbox(owner, wire.TO_VISITOR))


def _dial(reactor: Reactor, address: Address, secret: str, *, inbox: "_Inbox[L]") -> None:
    async def connect() -> None:
        try:
            async with asyncio.timeout(_CONNECT_LIMIT_S):
                reader, writer = await asyncio.open_connection(address.host, address.port)
        except OSError as error:  # a timeout is one, too
            inbox.owner.refused(str(error) or f"no answer within {_CONNECT_LIMIT_S:g} s")
            return
        lines = _Socket(reader, writer)
        await _converse(lines, lambda: _respond(lines, secret), inbox, limit_s=_ANSWER_LIMIT_S)

    reactor.spawn(connect())


def can_listen(address: Address) -> bool:
    """Whether a port can be had that a dead controller may have left."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        socket.create_server((address.host, address.port), family=family).close()
    except OSError:
        return False
    return True


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


class _Strangers:
    """Connections that have proved nothing yet: when there are too many, the oldest is cut.

    Whoever knows the secret has proved it within a few milliseconds, so a flood of strangers who
    wait costs them their turn, and neither agents theirs nor us our descriptors.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: dict[_Socket, None] = {}

    @contextmanager
    def one_more(self, lines: "_Socket") -> Iterator[None]:
        """While a connection proves itself."""
        self._waiting[lines] = None
        if len(self._waiting) > self._most:
            oldest = next(iter(self._waiting))
            del self._waiting[oldest]
            oldest.cut(f"more than {self._most} strangers wait, and it was the first")
        try:
            yield
        finally:
            self._waiting.pop(lines, None)


def _allow_many_connections() -> int:
    """Lift our limit of descriptors as far as we may: each agent's connection takes one."""
    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_DESCRIPTORS if most == resource.RLIM_INFINITY else min(_MOST_DESCRIPTORS, most)
    if wanted > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
    return max(soft, wanted)


class _Socket:
    """A connection's lines, before anything is proven."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.transport = writer.transport
        self._splitter = LineSplitter(limit_bytes=HANDSHAKE_LINE_LIMIT_BYTES)
        self._lines: deque[bytes] = deque()
        name = writer.get_extra_info("peername")
        self.peer = f"{name[0]}:{name[1]}" if name else "unknown"
        self._cut_because: str | None = None

    async def line(self) -> bytes:
        """The next line; raises ChannelError at the end and past the limit."""
        while not self._lines:
            data = await self._reader.read(_READ_BYTES)
            if not data or self._cut_because:
                raise ChannelError(reason=self._cut_because or _CLOSED_BY_PEER)
            self._lines.extend(self._splitter.feed(data))
        return self._lines.popleft()

    def cut(self, reason: str) -> None:
        """End the connection; whoever waits for its line is told why."""
        self._cut_because = reason
        self.transport.abort()

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
    lines: _Socket,
    prove: Callable[[], Awaitable[Session]],
    inbox: _Inbox[L],
    *,
    limit_s: float = _HANDSHAKE_LIMIT_S,
) -> None:
    """A connection's life: prove, then read until it ends."""
    try:
        async with asyncio.timeout(limit_s):
            session = await prove()
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
