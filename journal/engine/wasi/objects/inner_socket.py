"""Sockets inside the guest, which are connected to each other and never reach the host."""

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from journal.engine.wasi.channel import NOT_READY, ChannelState, Readiness
from journal.engine.wasi.objects.buffers import MESSAGE_COST
from journal.engine.wasi.objects.inner_options import InnerOptions
from journal.engine.wasi.objects.waits import StreamSink, wait_inside, write_stream
from journal.engine.wasi.socket_calls import AnyAddress, Received
from journal.events import codec
from journal.events.paths import FileType
from journal.events.sockets import (
    AddressFamily,
    Shutdown,
    SocketBind,
    SocketOption,
    SocketShutdown,
    SocketType,
)
from journal.events.wire_types import SocketAddress
from journal.wasi_abi import Errno, FdFlags, WasiError

if TYPE_CHECKING:
    from journal.engine.wasi.call_context import CallContext

#: Largest size of the bytes that wait in one socket, and of one message.
QUEUE_SIZE = 212992

#: Largest count of messages that wait in one socket. A message may be empty.
MESSAGES_MAX = 512

#: Flags of sock_recv and sock_send.
RECV_PEEK, RECV_WAIT_ALL, RECV_TRUNCATED, RECV_DONT_WAIT = 1, 2, 4, 8
SEND_DONT_WAIT = 1
ROFLAG_TRUNCATED = 1

_NONBLOCK = int(FdFlags.NONBLOCK)
_pack_shutdown = codec.make_late_packer(SocketShutdown)
_pack_bind = codec.make_late_packer(SocketBind)
_unpack_bind = codec.make_late_unpacker(SocketBind)
_FD_SIZE = 4  # Size of the descriptor at the start of a SocketBind payload.
_UNIX, _INTERNET = b"U", b"I"  # Kind of a saved address.
_ERROR_SHIFT = 16  # A saved state has the pending error above the flags.

InnerAddress = AnyAddress | None
"""Address of a socket inside the guest: of the loopback, a Unix path, or none."""


class QueuedMessage(NamedTuple):
    """A message that waits in a socket, and the address of its sender."""

    data: bytes
    sender: InnerAddress


class InnerSocket(StreamSink, InnerOptions):
    """A socket inside the guest. Its queue has what other sockets sent to it.

    A stream joins the bytes of its sends; a datagram and a seqpacket socket receive whole messages.
    ``peer`` is the connected socket, None if there is none or the peer was closed. ``error`` is a
    pending error number, which the next call reports. ``senders`` are the sockets whose peer this
    one is.
    """

    def __init__(self, family: AddressFamily, kind: SocketType, protocol: int = 0) -> None:
        self.family, self.kind, self.protocol = family, kind, protocol
        self.local: InnerAddress = None
        self.remote: InnerAddress = None
        self.peer: InnerSocket | None = None
        self.senders: dict[InnerSocket, None] = {}
        self.is_connected = False
        self.is_disconnected = False
        self.is_closed = self.is_read_shut = self.is_write_shut = False
        self.error: int = Errno.SUCCESS
        self.options: dict[SocketOption, int] = {}
        self.receive_timeout_ns: int | None = None
        self.send_timeout_ns: int | None = None
        self._bytes = bytearray()  # The queue of a stream.
        self._messages: deque[QueuedMessage] = deque()  # The queue of any other socket.
        self._message_size = 0

    @property
    def is_stream(self) -> bool:
        """Return whether the socket transfers bytes without boundaries."""
        return self.kind is SocketType.STREAM

    @property
    def has_connections(self) -> bool:
        """Return whether both ends know of each other: a stream or a seqpacket socket."""
        return self.kind is not SocketType.DGRAM

    @property
    def filetype(self) -> FileType:  # type: ignore[override]  # A socket has one of two types.
        """Return the WASI file type."""
        return FileType.SOCKET_DGRAM if self.kind is SocketType.DGRAM else FileType.SOCKET_STREAM

    def connect_to(self, peer: "InnerSocket") -> None:
        """Make ``peer`` the target of what this socket sends."""
        if self.peer is not None:
            self.peer.senders.pop(self, None)
        self.peer, self.is_connected, self.is_disconnected = peer, True, False
        peer.senders[self] = None
        self.announce()

    # -- receiving --------------------------------------------------------------------------------

    @property
    def has_data(self) -> bool:
        """Return whether bytes or a message can be received."""
        return bool(self._bytes or self._messages)

    def read(self, context: "CallContext", fd: int, size_max: int) -> bytes:
        """Receive for fd_read; a read of no bytes receives nothing."""
        return self.receive(context, fd, "fd_read", size_max, 0).data if size_max else b""

    def receive(
        self, context: "CallContext", fd: int, function: str, size_max: int, flags: int
    ) -> Received:
        """Return bytes or a message; none at the end. ``flags`` are those of sock_recv.

        The end of a message that does not fit is lost.
        """
        if self.has_connections and not self.is_connected:
            raise WasiError(Errno.NOTCONN if self.kind is SocketType.SEQPACKET else Errno.INVAL)
        wanted_size = 1
        if self.is_stream and flags & RECV_WAIT_ALL:
            wanted_size = min(max(size_max, 1), QUEUE_SIZE)
        does_wait = not (self.flags & _NONBLOCK or flags & RECV_DONT_WAIT)
        while not self._can_receive(wanted_size):
            if not does_wait:
                if self.has_data:
                    break
                raise WasiError(Errno.AGAIN)
            wait_inside(
                context,
                fd,
                function,
                lambda: self._can_receive(wanted_size),
                self.receive_timeout_ns,
            )
        if not self.has_data:
            self.raise_error()
            if not (does_wait or self.has_connections):
                raise WasiError(Errno.AGAIN)  # Linux ends only the waiting receive of a datagram.
            return Received(b"", 0, self.remote)
        return self._take(size_max, flags)

    def _can_receive(self, size: int) -> bool:
        if self._messages or len(self._bytes) >= size:
            return True
        return bool(self.error) or self.is_read_shut

    def _take(self, size_max: int, flags: int) -> Received:
        keeps = bool(flags & RECV_PEEK)
        if self.is_stream:
            data = bytes(self._bytes[:size_max])
            if not keeps:
                was_full = len(self._bytes) >= QUEUE_SIZE
                del self._bytes[:size_max]
                self._announce_room(was_full=was_full)
            return Received(data, 0, self.remote)
        message = self._messages[0]
        if not keeps:
            was_full = not self.has_room_for(1)
            self._messages.popleft()
            self._message_size -= len(message.data)
            self._announce_room(was_full=was_full)
        is_cut = len(message.data) > size_max
        return Received(message.data[:size_max], ROFLAG_TRUNCATED * is_cut, message.sender)

    def _announce_room(self, *, was_full: bool) -> None:
        if was_full:
            for sender in self.senders:
                sender.announce(Readiness.WRITABLE)

    def raise_error(self) -> None:
        """Raise the pending error, if there is one, and forget it."""
        error, self.error = self.error, Errno.SUCCESS
        if error:
            raise WasiError(error)

    def available_size(self) -> int:
        """Return the size of the bytes or of the message that can be received."""
        return len(self._messages[0].data) if self._messages else len(self._bytes)

    # -- sending ----------------------------------------------------------------------------------

    def write(self, context: "CallContext", fd: int, data: bytes) -> int:
        """Send the bytes of fd_write."""
        return self.send(context, fd, "fd_write", data, 0)

    def send(self, context: "CallContext", fd: int, function: str, data: bytes, flags: int) -> int:
        """Send to the connected peer and return the count of sent bytes."""
        waits = not (self.flags & _NONBLOCK or flags & SEND_DONT_WAIT)
        if not self.is_stream:
            target = self.get_target()
            return self.send_message(context, fd, function, data, target, waits=waits)
        return write_stream(
            context, fd, function, self, data, waits=waits, timeout_ns=self.send_timeout_ns
        )

    def get_target(self) -> "InnerSocket":
        """Return the peer for a message; raise ``WasiError`` if there is none."""
        if self.is_write_shut:
            raise WasiError(Errno.PIPE)
        if self.peer is None:
            raise WasiError(Errno.NOTCONN)
        return self.peer

    def send_message(
        self,
        context: "CallContext",
        fd: int,
        function: str,
        data: bytes,
        target: "InnerSocket",
        *,
        waits: bool,
    ) -> int:
        """Send a message to ``target`` and return its size; wait for room if requested."""
        if len(data) > QUEUE_SIZE:
            raise WasiError(Errno.MSGSIZE)
        while True:
            self._check_target(target)
            if target.has_room_for(len(data)):
                break
            if not waits:
                raise WasiError(Errno.AGAIN)
            wait_inside(
                context,
                fd,
                function,
                lambda: target.has_room_for(len(data)) or target.is_closed or target.is_read_shut,
                self.send_timeout_ns,
            )
        context.buffers.reserve(len(data) + MESSAGE_COST)
        target.deliver(data, self.local)
        return len(data)

    def _check_target(self, target: "InnerSocket") -> None:
        if self.is_write_shut or (target.is_read_shut and not target.is_closed):
            raise WasiError(Errno.PIPE)
        if target.is_closed:
            if self.peer is target:  # The socket is disconnected, and Linux discards its queue.
                self._disconnect()
                self._messages.clear()
                self._message_size = 0
            raise WasiError(Errno.CONNREFUSED)

    def _disconnect(self) -> None:
        if self.peer is not None:
            self.peer.senders.pop(self, None)
        self.peer, self.is_connected, self.is_disconnected = None, False, True

    def has_room_for(self, size: int) -> bool:
        """Return whether the queue can take a message of ``size`` bytes."""
        is_below = len(self._messages) < MESSAGES_MAX
        return is_below and self._message_size + size <= QUEUE_SIZE

    def deliver(self, data: bytes, sender: InnerAddress) -> None:
        """Add a message to the queue, which has room for it."""
        self._messages.append(QueuedMessage(data, sender))
        self._message_size += len(data)
        self.announce(Readiness.READABLE)

    def check_writable(self) -> None:
        """Raise ``WasiError`` if this stream cannot send."""
        if self.is_write_shut:
            raise WasiError(Errno.PIPE)
        if not self.is_connected:
            raise WasiError(Errno.NOTCONN)

    def room(self) -> int:
        """Return how many bytes the queue of the peer can take."""
        return QUEUE_SIZE - len(self.peer._bytes) if self.peer is not None else 0

    def put(self, data: bytes) -> None:
        """Add bytes to the queue of the peer."""
        assert self.peer is not None, "check_writable was called"
        self.peer._bytes += data
        self.peer.announce(Readiness.READABLE)

    # -- state ------------------------------------------------------------------------------------

    def shutdown(self, context: "CallContext", fd: int, how: Shutdown) -> None:
        """End one or both directions."""
        if self.has_connections and not self.is_connected:
            raise WasiError(Errno.NOTCONN)
        context.tape.record_effect(SocketShutdown.tag, _pack_shutdown(fd, how))
        self.end_directions(how)

    def end_directions(self, how: Shutdown) -> None:
        """End one or both directions, of which the peer learns."""
        peer = self.peer if self.has_connections else None
        if how in (Shutdown.READ, Shutdown.BOTH):
            self.is_read_shut = True
            if peer is not None:
                peer.is_write_shut = True
        if how in (Shutdown.WRITE, Shutdown.BOTH):
            self.is_write_shut = True
            if peer is not None:
                peer.is_read_shut = True
        self.announce()
        if peer is not None:
            peer.announce()

    def readiness(self) -> Readiness:
        """Return what the guest can do without waiting."""
        ready = Readiness.READABLE if self.has_data or self.is_read_shut else NOT_READY
        if self.error:
            ready |= Readiness.ERROR | Readiness.READABLE
        if self.is_read_shut:
            ready |= Readiness.READ_HANGUP
            if self.is_write_shut:
                ready |= Readiness.HANGUP
        return ready | Readiness.WRITABLE if self._is_writable() else ready

    def _is_writable(self) -> bool:
        if self.peer is None or self.is_write_shut:
            return self.kind is SocketType.DGRAM or self.is_connected
        return self.room() > 0 if self.is_stream else self.peer.has_room_for(1)

    def buffered_size(self) -> int:
        """Return the size of the queue."""
        return len(self._bytes) + self._message_size + len(self._messages) * MESSAGE_COST

    def save(self) -> ChannelState | None:
        """Return the queue, an unfinished write as value, and a pending error with the flags.

        The first flag tells that a datagram socket learned that its peer was closed.

        Two parts stand for each message: its sender and its bytes.
        """
        parts: tuple[bytes, ...] = (bytes(self._bytes),) if self._bytes else ()
        for message in self._messages:
            parts += (pack_inner_address(message.sender), message.data)
        flags = self.error << _ERROR_SHIFT | self.is_disconnected
        if not (parts or self.accepted_size or flags):
            return None
        return ChannelState(self.accepted_size, flags, parts)

    def load(self, state: ChannelState) -> None:
        """Restore the state of :meth:`save`."""
        self.accepted_size, self.error = state.value, Errno(state.flags >> _ERROR_SHIFT)
        if state.flags & 1:
            self._disconnect()
        if self.is_stream:
            data = b"".join(state.parts)
            if len(data) > QUEUE_SIZE:
                raise ValueError(f"a socket cannot have {len(data)} bytes")
            self._bytes[:] = data
            return
        if len(state.parts) % 2:
            raise ValueError("a message has no sender")
        for sender, data in zip(state.parts[::2], state.parts[1::2], strict=True):
            if not self.has_room_for(len(data)):
                raise ValueError("a socket cannot have so many messages")
            self.deliver(data, unpack_inner_address(sender))

    def close(self) -> None:
        """Close the socket. A connected peer reads what was sent and then the end.

        Unread bytes are lost, which a peer with a connection learns as ``CONNRESET``.
        """
        self.is_closed = True
        peer = self.peer if self.has_connections else None
        if peer is not None:
            peer.is_read_shut = peer.is_write_shut = True
            if self.has_data:
                peer.error = Errno.CONNRESET
            peer.peer = None
        if self.peer is not None:
            self.peer.senders.pop(self, None)
        self.peer = None
        self._bytes.clear()
        self._messages.clear()
        self._message_size = 0
        for sender in self.senders:
            sender.announce()
        self.senders.clear()


def pack_inner_address(address: InnerAddress) -> bytes:
    """Return an address as bytes; none stand for no address."""
    if address is None:
        return b""
    if isinstance(address, bytes):
        return _UNIX + address
    return _INTERNET + _pack_bind(0, address)[_FD_SIZE:]


def unpack_inner_address(data: bytes) -> InnerAddress:
    """Return the address of :func:`pack_inner_address`."""
    kind, rest = data[:1], data[1:]
    if kind == _INTERNET:
        _, address = _unpack_bind(bytes(_FD_SIZE) + rest)
        assert isinstance(address, SocketAddress)
        return address
    return rest if kind == _UNIX else None


def connect_pair(one: InnerSocket, other: InnerSocket) -> None:
    """Connect two sockets with each other."""
    one.connect_to(other)
    other.connect_to(one)
    one.remote, other.remote = other.local, one.local
