"""Traffic of a guest's sockets, from events alone: connections, and the bytes that passed.

The tracker needs no replay. It accepts a journal whose beginning is missing, and skips events that
contradict earlier ones.
"""

from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from typing import Any, NamedTuple

from journal.errors import FormatError
from journal.events import BY_TAG, codec, descriptors, inputs, process, sockets, tag_sets
from journal.events.definition import Event, Opens, Role
from journal.events.inputs import NETWORK_CALLS, PEEKED, HostCall
from journal.events.sockets import AddressFamily, Shutdown, SocketType
from journal.events.wire_types import SocketAddress
from journal.format.block import Block
from journal.wasi_abi import STILL_PENDING, Errno

SOCKETS_MAX = 1 << 18
"""Maximum number of descriptors of sockets. Further sockets are not tracked."""

_COUNT_SIZE = 4
_FOLLOWERS = tag_sets.tags_with_role(Role.EFFECT) | tag_sets.tags_with_role(Role.INPUT)


class TrafficKind(Enum):
    """What happened to a socket."""

    REQUESTED = "requested"
    """The guest requested a connection. The local address is known from now on."""
    REFUSED = "refused"
    """The request for a connection failed."""
    CONNECTED = "connected"
    """The requested connection is established."""
    ACCEPTED = "accepted"
    """The guest accepted a connection."""
    SENT = "sent"
    """The host accepted bytes."""
    RECEIVED = "received"
    """The guest received bytes."""
    SHUT = "shut"
    """The guest ended its direction of the connection."""
    ENDED = "ended"
    """The peer ended its direction of the connection."""
    LOST = "lost"
    """The peer reset the connection, or a resume could not continue it."""
    CLOSED = "closed"
    """The guest closed the last descriptor, or has ended."""


class TrackedSocket:
    """A socket. ``local`` and ``peer`` are None while they are unknown.

    ``is_inside`` says that the socket never reaches the host. ``is_connected`` says that a stream
    has a connection, which was neither lost nor closed.
    """

    __slots__ = ("count", "is_connected", "is_datagram", "is_inside", "local", "peer")

    def __init__(
        self,
        local: SocketAddress | None = None,
        peer: SocketAddress | None = None,
        *,
        is_datagram: bool = False,
        is_inside: bool = False,
    ) -> None:
        self.local, self.peer = local, peer
        self.is_datagram, self.is_inside = is_datagram, is_inside
        self.is_connected = False
        self.count = 0  # Descriptors of the socket.


class Traffic(NamedTuple):
    """One thing that happened to a socket.

    ``data`` are the bytes that passed, and ``size`` is their number, which is larger for bytes of a
    file that the journal does not repeat. ``peer`` is that of the bytes, or of the connection.
    """

    kind: TrafficKind
    socket: TrackedSocket
    peer: SocketAddress | None
    data: bytes = b""
    size: int = 0
    errno: int = 0


_REQUESTS: dict[type[Event], HostCall] = {
    sockets.SocketOpen: HostCall.SOCKET,
    sockets.SocketBind: HostCall.BIND,
    sockets.SocketListen: HostCall.LISTEN,
    sockets.SocketConnect: HostCall.CONNECT,
    sockets.SocketSend: HostCall.SEND,
    sockets.SocketSendTo: HostCall.SEND,
    sockets.SocketSendFile: HostCall.SEND,
    sockets.SocketShutdown: HostCall.SHUTDOWN,
}
_FIRST_TAGS = tag_sets.SOCKET_OPENINGS | {process.ProcessStart.tag}
"""Tags that the tracker needs while no socket is open."""


class SocketTracker:
    """Sockets of a guest. All events of ``tag_sets.TRAFFIC`` must be added, in order."""

    def __init__(self) -> None:
        self._open: dict[int, TrackedSocket] = {}
        self._request: Any = None  # A request whose result has not come yet.
        self._has_results = False
        self._handlers: dict[type[Event], Callable[[Any], Iterator[Traffic]]] = {
            process.SessionStart: self._begin_session,
            process.Listener: self._open_listener,
            sockets.SocketInside: self._move_inside,
            sockets.SocketPair: self._open_pair,
            sockets.SocketPairOfType: self._open_pair,
            sockets.SocketAccepted: self._accept,
            sockets.SocketConnected: self._connect,
            inputs.BytesReceived: self._receive,
            inputs.HostResult: self._add_result,
            descriptors.CloseFileDescriptor: lambda event: self._drop(event.fd),
            descriptors.RenumberFileDescriptor: self._renumber,
            descriptors.DuplicateFileDescriptor: self._duplicate,
            descriptors.DuplicateFileDescriptorWithFlags: self._duplicate,
            **dict.fromkeys((BY_TAG[tag] for tag in tag_sets.RESETS), self._end_process),
            **dict.fromkeys(_REQUESTS, self._add_request),
        }

    def find(self, fd: int) -> TrackedSocket | None:
        """Return the socket of a descriptor, None if it is not known to be one."""
        return self._open.get(fd)

    @property
    def has_sockets(self) -> bool:
        """Return whether a socket is open."""
        return bool(self._open)

    def add(self, tag: int, payload: bytes) -> list[Traffic]:
        """Add an event, and return what happened. A malformed event is skipped."""
        if tag not in tag_sets.TRAFFIC:
            return list(self._settle(None)) if self._request and tag in _FOLLOWERS else []
        try:
            return self.add_event(codec.decode(tag, payload))
        except FormatError:
            return []

    def add_event(self, event: Event) -> list[Traffic]:
        """Add a decoded event, and return what happened."""
        found = list(self._settle(event)) if self._request is not None else []
        handle = self._handlers.get(type(event))
        if handle is not None:
            found += handle(event)
        elif isinstance(event.rule, Opens):  # Another object takes the number.
            for name in event.rule.fds:
                found += self._drop(getattr(event, name))
        return found

    # -- descriptors ------------------------------------------------------------------------------

    def _put(self, fd: int, socket: TrackedSocket) -> Iterator[Traffic]:
        yield from self._drop(fd)
        if len(self._open) < SOCKETS_MAX:
            self._open[fd] = socket
            socket.count += 1

    def _drop(self, fd: int) -> Iterator[Traffic]:
        socket = self._open.pop(fd, None)
        if socket is not None:
            socket.count -= 1
            if not socket.count:
                yield Traffic(TrafficKind.CLOSED, socket, socket.peer)
                socket.is_connected = False

    def _renumber(self, event: descriptors.RenumberFileDescriptor) -> Iterator[Traffic]:
        if event.old_fd == event.new_fd:
            return
        yield from self._drop(event.new_fd)
        socket = self._open.pop(event.old_fd, None)
        if socket is not None:
            self._open[event.new_fd] = socket

    def _duplicate(self, event: Any) -> Iterator[Traffic]:
        socket = self._open.get(event.original_fd)
        if socket is None:
            yield from self._drop(event.copied_fd)
        elif self._open.get(event.copied_fd) is not socket:
            yield from self._put(event.copied_fd, socket)

    def _end_process(self, event: Event) -> Iterator[Traffic]:
        for fd in list(self._open):
            yield from self._drop(fd)
        self._request = None
        self._has_results = isinstance(event, process.ProcessStart) and (
            event.level is process.RecordingLevel.FULL
        )

    def _begin_session(self, event: process.SessionStart) -> Iterator[Traffic]:
        """End all connections: a resume cannot continue them."""
        for socket in dict.fromkeys(self._open.values()):
            if socket.is_connected and not socket.is_inside:
                yield Traffic(TrafficKind.LOST, socket, socket.peer, errno=Errno.CONNRESET)
                socket.is_connected = False

    def _open_listener(self, event: process.Listener) -> Iterator[Traffic]:
        return self._put(event.fd, TrackedSocket(event.addr))

    def _move_inside(self, event: sockets.SocketInside) -> Iterator[Traffic]:
        socket = self._open.get(event.fd)
        if socket is not None:
            socket.is_inside = True
        return iter(())

    def _open_pair(self, event: Any) -> Iterator[Traffic]:
        is_datagram = getattr(event, "ty", None) is SocketType.DGRAM
        for fd in (event.fd1, event.fd2):
            socket = TrackedSocket(is_datagram=is_datagram, is_inside=True)
            yield from self._put(fd, socket)

    # -- connections ------------------------------------------------------------------------------

    def _accept(self, event: sockets.SocketAccepted) -> Iterator[Traffic]:
        listener = self._open.get(event.listen_fd)
        is_inside = listener is not None and listener.is_inside
        socket = TrackedSocket(event.local_addr, event.peer_addr, is_inside=is_inside)
        yield from self._put(event.fd, socket)
        socket.is_connected = True
        yield Traffic(TrafficKind.ACCEPTED, socket, socket.peer)

    def _connect(self, event: sockets.SocketConnected) -> Iterator[Traffic]:
        socket = self._open.get(event.fd)
        if socket is not None:
            socket.local, socket.peer = event.local_addr, event.peer_addr
            socket.is_connected = not socket.is_datagram
            yield Traffic(TrafficKind.CONNECTED, socket, socket.peer)

    def _receive(self, event: inputs.BytesReceived) -> Iterator[Traffic]:
        socket = self._open.get(event.fd)
        if socket is None or event.flags & PEEKED:
            return
        peer = event.sender or socket.peer
        if event.errno:
            if event.errno == Errno.CONNRESET:
                yield from self._lose(socket, event.errno)
        elif event.data or socket.is_datagram:
            size = len(event.data)
            yield Traffic(TrafficKind.RECEIVED, socket, peer, event.data, size)
        elif socket.is_connected:
            yield Traffic(TrafficKind.ENDED, socket, peer)

    def _lose(self, socket: TrackedSocket, errno: int) -> Iterator[Traffic]:
        if socket.is_connected:
            yield Traffic(TrafficKind.LOST, socket, socket.peer, errno=errno)
            socket.is_connected = False

    # -- requests and their results ---------------------------------------------------------------

    def _add_request(self, event: Any) -> Iterator[Traffic]:
        if isinstance(event, sockets.SocketOpen):
            is_datagram, is_unix = event.ty is SocketType.DGRAM, event.af is AddressFamily.UNIX
            socket = TrackedSocket(is_datagram=is_datagram, is_inside=is_unix)
            yield from self._put(event.fd, socket)
        found = self._open.get(_socket_fd(event))
        if found is not None and (found.is_inside or not self._has_results):
            yield from self._apply(event, found, None)
        else:
            self._request = event

    def _settle(self, event: Event | None) -> Iterator[Traffic]:
        """Apply the request at once if ``event`` is not its result: the socket is inside."""
        request = self._request
        is_result = (
            isinstance(event, inputs.HostResult)
            and event.call is _REQUESTS[type(request)]
            and event.fd == _socket_fd(request)
        )
        if is_result or (event is not None and event.tag not in _FOLLOWERS):
            return
        self._request = None
        socket = self._open.get(_socket_fd(request))
        if socket is not None:
            socket.is_inside = True
            yield from self._apply(request, socket, None)

    def _add_result(self, event: inputs.HostResult) -> Iterator[Traffic]:
        request, self._request = self._request, None
        socket = self._open.get(event.fd)
        if socket is None or event.call not in NETWORK_CALLS:
            return
        is_started = event.call is HostCall.CONNECT and event.errno in STILL_PENDING
        if event.errno and not is_started:
            yield from self._fail(event, request, socket)
        elif request is not None:
            yield from self._apply(request, socket, event.value)
        elif event.call is HostCall.ADDRESS:
            socket.local = next(_decode_addresses(event.value), socket.local)

    def _fail(
        self, event: inputs.HostResult, request: Event | None, socket: TrackedSocket
    ) -> Iterator[Traffic]:
        """Handle a failed request. The outcome of a connection may come without its request."""
        if event.call is HostCall.SOCKET:
            self._open.pop(event.fd, None)
        elif event.call is HostCall.CONNECT:
            peer = request.addr if isinstance(request, sockets.SocketConnect) else socket.peer
            yield Traffic(TrafficKind.REFUSED, socket, peer, errno=event.errno)
        elif event.call is HostCall.SEND and event.errno in (Errno.CONNRESET, Errno.PIPE):
            yield from self._lose(socket, event.errno)

    def _apply(self, event: Any, socket: TrackedSocket, value: bytes | None) -> Iterator[Traffic]:
        """Apply a successful request. Without a ``value`` it was made inside the guest."""
        if isinstance(event, sockets.SocketBind):
            socket.local = next(_decode_addresses(value), event.addr)
        elif isinstance(event, sockets.SocketListen):
            socket.local = next(_decode_addresses(value), socket.local)
        elif isinstance(event, sockets.SocketConnect):
            socket.local = next(_decode_addresses(value), socket.local)
            socket.peer = event.addr
            yield Traffic(TrafficKind.REQUESTED, socket, socket.peer)
        elif isinstance(event, sockets.SocketShutdown):
            if event.how is not Shutdown.READ and socket.is_connected:
                yield Traffic(TrafficKind.SHUT, socket, socket.peer)
        elif not isinstance(event, sockets.SocketOpen):
            yield self._send(event, socket, value)

    @staticmethod
    def _send(event: Any, socket: TrackedSocket, value: bytes | None) -> Traffic:
        is_file = isinstance(event, sockets.SocketSendFile)
        data = b"" if is_file else event.data
        size = event.count if is_file else len(data)
        if value is not None and len(value) == _COUNT_SIZE:
            size = min(size, int.from_bytes(value, "little"))
        peer = event.addr if isinstance(event, sockets.SocketSendTo) else socket.peer
        return Traffic(TrafficKind.SENT, socket, peer, data[:size], size)


class TimedTraffic(NamedTuple):
    """Traffic of the event ``seq``, whose ``time`` is in µs since the epoch."""

    seq: int
    time: int
    traffic: Traffic


def follow_traffic(
    blocks: Iterable[Block], tracker: SocketTracker | None = None
) -> Iterator[TimedTraffic]:
    """Yield the traffic of a journal. Blocks without sockets are not decompressed."""
    tracker = tracker or SocketTracker()
    for block in blocks:
        tags = tag_sets.TRAFFIC if tracker.has_sockets else _FIRST_TAGS
        if tags.isdisjoint(block.tags):
            continue
        indices = block.select(tag_sets.TRAFFIC)
        rows = zip(block.rows(indices), block.times_at(indices), strict=True)
        for (seq, tag, payload), time in rows:
            for traffic in tracker.add(tag, payload):
                yield TimedTraffic(seq, time, traffic)


def _socket_fd(event: Any) -> int:
    fd: int = event.socket_fd if isinstance(event, sockets.SocketSendFile) else event.fd
    return fd


def _decode_addresses(value: bytes | None) -> Iterator[SocketAddress]:
    """Yield the first address in the value of a host result, if it has one."""
    size = {4: 15, 16: 27}.get(value[0], 0) if value else 0
    if value and size and len(value) >= size:
        event = codec.decode(sockets.SocketBind.tag, bytes(4) + value[:size])
        assert isinstance(event, sockets.SocketBind)
        yield event.addr
