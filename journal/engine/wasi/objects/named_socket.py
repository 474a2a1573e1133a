"""Sockets inside the guest that have names: of the loopback addresses, and Unix sockets.

They are equal in every replay: only their effects are recorded, without results of the host. The
bytes that pass through them leave no event; a snapshot stores what waits in them.
"""

from collections import deque
from typing import TYPE_CHECKING

from journal.engine.wasi.channel import NOT_READY, ChannelState, Readiness
from journal.engine.wasi.objects.buffers import MESSAGE_COST
from journal.engine.wasi.objects.inner_network import (
    InnerNetwork,
    check_family,
    get_source,
    make_any,
    to_family,
    to_target,
)
from journal.engine.wasi.objects.inner_socket import (
    QUEUE_SIZE,
    SEND_DONT_WAIT,
    InnerSocket,
    connect_pair,
)
from journal.engine.wasi.objects.named_state import load_socket, save_socket
from journal.engine.wasi.objects.waits import wait_inside
from journal.engine.wasi.socket_calls import AnyAddress, Received
from journal.events import codec
from journal.events.sockets import (
    AddressFamily,
    SocketAccepted,
    SocketBind,
    SocketConnect,
    SocketListen,
    SocketOption,
    SocketType,
    UnixSocketBind,
    UnixSocketConnect,
)
from journal.events.wire_types import SocketAddress
from journal.wasi_abi import Errno, FdFlags, WasiError

if TYPE_CHECKING:
    from journal.engine.wasi.call_context import CallContext

#: Largest datagram of UDP, as on the loopback of Linux.
DATAGRAM_SIZE_MAX = 65507
assert DATAGRAM_SIZE_MAX <= QUEUE_SIZE

#: Longest queue of connections that wait to be accepted.
BACKLOG_MAX = 4096

_NONBLOCK = int(FdFlags.NONBLOCK)
_pack_bind = codec.make_late_packer(SocketBind)
_pack_unix_bind = codec.make_late_packer(UnixSocketBind)
_pack_listen = codec.make_late_packer(SocketListen)
_pack_connect = codec.make_late_packer(SocketConnect)
_pack_unix_connect = codec.make_late_packer(UnixSocketConnect)
_pack_accepted = codec.make_late_packer(SocketAccepted)


class NamedSocket(InnerSocket):
    """A socket inside the guest that can be bound, listen and connect.

    ``pending`` are the connections that wait to be accepted, and ``waiting`` the sockets whose
    requests do not fit into that queue. ``is_connecting`` marks such a socket.
    """

    def __init__(
        self, network: InnerNetwork, family: AddressFamily, kind: SocketType, protocol: int = 0
    ) -> None:
        super().__init__(family, kind, protocol)
        self.network = network
        self.backlog: int | None = None
        self.pending: deque[NamedSocket] = deque()
        self.waiting: deque[NamedSocket] = deque()
        self.is_connecting = self.has_failed = False

    @property
    def is_internet(self) -> bool:
        """Return whether the socket has ports, and not names."""
        return self.family is not AddressFamily.UNIX

    @property
    def is_udp(self) -> bool:
        """Return whether a message may be lost, and a peer is only an address."""
        return self.is_internet and self.kind is SocketType.DGRAM

    # -- names ------------------------------------------------------------------------------------

    def bind(self, context: "CallContext", fd: int, address: AnyAddress) -> None:
        """Give the socket a local address. Port 0 selects a free port."""
        if self.local is not None:
            raise WasiError(Errno.INVAL)
        self._record_bind(context, fd, self.network.choose_address(self, address))

    def _record_bind(self, context: "CallContext", fd: int, address: AnyAddress) -> None:
        if isinstance(address, bytes):
            context.tape.record_effect(UnixSocketBind.tag, _pack_unix_bind(fd, address))
        else:
            context.tape.record_effect(SocketBind.tag, _pack_bind(fd, address))
        self.network.add(self, address)

    def _bind_to_free_port(self, context: "CallContext", fd: int, ip: SocketAddress) -> None:
        if self.local is None:
            wanted = SocketAddress(ip.address, 0, ip.flow, ip.scope)
            self._record_bind(context, fd, self.network.choose_address(self, wanted))

    # -- connections that come --------------------------------------------------------------------

    def listen(self, context: "CallContext", fd: int, backlog: int) -> None:
        """Wait for connections. A socket without an address gets a free port."""
        if self.kind is SocketType.DGRAM:
            raise WasiError(Errno.NOTSUP)
        if self.is_connected or self.is_connecting or (self.local is None and not self.is_internet):
            raise WasiError(Errno.INVAL)
        self._bind_to_free_port(context, fd, make_any(self.family))
        context.tape.record_effect(SocketListen.tag, _pack_listen(fd, backlog))
        self.backlog = min(backlog, BACKLOG_MAX)
        self._fill_queue()

    @property
    def has_room_for_connection(self) -> bool:
        """Return whether another connection can wait. As on Linux, the queue is one longer."""
        return self.backlog is not None and len(self.pending) <= self.backlog

    def accept(
        self, context: "CallContext", fd: int, function: str, flags: int
    ) -> "tuple[int, NamedSocket]":
        """Wait for a connection unless NONBLOCK is set; return its descriptor and its socket."""
        if self.kind is SocketType.DGRAM:
            raise WasiError(Errno.NOTSUP)
        if self.backlog is None:
            raise WasiError(Errno.INVAL)
        accepted_fd = context.descriptors.next_fd()
        while not self.pending:
            if self.flags & _NONBLOCK:
                raise WasiError(Errno.AGAIN)
            limit = self.options.get(SocketOption.ACCEPT_TIMEOUT)
            self._wait(context, fd, function, "pending", limit)
        accepted = self.pending.popleft()
        accepted.record_acceptance(context, fd, accepted_fd, flags)
        self._fill_queue()
        return accepted_fd, accepted

    def record_acceptance(
        self, context: "CallContext", fd: int, accepted_fd: int, flags: int
    ) -> None:
        """Record that the listener ``fd`` accepted this socket, and add its descriptor."""
        addresses = [
            each if isinstance(each, SocketAddress) else make_any(AddressFamily.INET4)
            for each in (self.local, self.remote)
        ]
        is_non_blocking = bool(flags & _NONBLOCK)
        effect = _pack_accepted(fd, accepted_fd, flags, is_non_blocking, *addresses)
        context.tape.record_effect(SocketAccepted.tag, effect)
        self.flags = flags
        added = context.descriptors.add(self)
        assert added == accepted_fd

    def make_accepted(
        self, local: AnyAddress | None, remote: AnyAddress | None, protocol: int
    ) -> "NamedSocket":
        """Return a socket of the kind of this listener, for a connection to it."""
        made = NamedSocket(self.network, self.family, self.kind, protocol)
        made.local, made.remote, made.is_connected = local, remote, True
        return made

    def _fill_queue(self) -> None:
        """Connect the sockets whose requests fit into the queue now."""
        while self.waiting and self.has_room_for_connection:
            self.waiting.popleft()._establish(self)

    # -- connections that are requested -----------------------------------------------------------

    def connect(self, context: "CallContext", fd: int, function: str, address: AnyAddress) -> None:
        """Connect to a socket inside the guest.

        A request that does not fit into the queue of the listener waits, or fails with
        ``INPROGRESS``, of a Unix socket with ``AGAIN``.
        """
        check_family(self.family, address)
        if self.kind is SocketType.DGRAM:
            self._set_peer(context, fd, address)
            return
        self.raise_error()
        if self.is_connected or self.backlog is not None:
            raise WasiError(Errno.ISCONN)
        waits = not self.flags & _NONBLOCK
        if self.is_connecting:
            if not waits:
                raise WasiError(Errno.ALREADY)
        else:
            self._request(context, fd, address, waits=waits)
        if self.is_connecting and not waits:
            raise WasiError(Errno.INPROGRESS)
        while self.is_connecting:
            limit = self.options.get(SocketOption.CONNECT_TIMEOUT)
            self._wait(context, fd, function, "is_settled", limit)
        self.raise_error()

    @property
    def is_settled(self) -> bool:
        """Return whether no request for a connection waits."""
        return not self.is_connecting

    def _request(
        self, context: "CallContext", fd: int, address: AnyAddress, *, waits: bool
    ) -> None:
        target = to_target(address) if isinstance(address, SocketAddress) else address
        listener = self._find(target)
        if listener.backlog is None:
            raise WasiError(Errno.CONNREFUSED)
        if not (listener.has_room_for_connection or waits or self.is_internet):
            raise WasiError(Errno.AGAIN)
        if isinstance(target, SocketAddress):
            self._bind_to_free_port(context, fd, target)
        self._record_connect(context, fd, target)
        if listener.has_room_for_connection:
            self._establish(listener)
        else:
            self.is_connecting = True
            listener.waiting.append(self)

    def _find(self, address: AnyAddress) -> "NamedSocket":
        """Return the socket at an address; raise ``WasiError`` if there is none of this type."""
        found = self.network.find(self.kind, address)
        if found is None:
            is_path = isinstance(address, bytes) and not address.startswith(b"\0")
            raise WasiError(Errno.NOENT if is_path else Errno.CONNREFUSED)
        if found.kind is not self.kind:
            raise WasiError(Errno.PROTOTYPE)
        return found

    def _record_connect(self, context: "CallContext", fd: int, target: AnyAddress) -> None:
        if isinstance(target, bytes):
            context.tape.record_effect(UnixSocketConnect.tag, _pack_unix_connect(fd, target))
        else:
            context.tape.record_effect(SocketConnect.tag, _pack_connect(fd, target))
        self.remote = target

    def _establish(self, listener: "NamedSocket") -> None:
        """Connect this socket with a new one that waits to be accepted."""
        remote = self.remote
        server = listener.make_accepted(to_family(remote, listener.family), None, listener.protocol)
        connect_pair(self, server)
        self.remote, server.remote = remote, to_family(self.local, listener.family)
        self.is_connecting = self.has_failed = False
        listener.pending.append(server)
        listener.announce(Readiness.READABLE)

    def _set_peer(self, context: "CallContext", fd: int, address: AnyAddress) -> None:
        """Make an address the target of what a datagram socket sends."""
        target = to_target(address) if isinstance(address, SocketAddress) else address
        found = None if self.is_udp else self._find(target)
        if found is not None and found.is_connected and found.peer is not self:
            raise WasiError(Errno.PERM)
        if isinstance(target, SocketAddress):
            self._bind_to_free_port(context, fd, target)
        self._record_connect(context, fd, target)
        self.is_connected = True
        if found is not None:
            self.connect_to(found)

    def repeat_connect(self, context: "CallContext", fd: int, target: AnyAddress) -> None:
        """Repeat a request of the journal. The contents of a snapshot have the connection."""
        check_family(self.family, target)
        self._record_connect(context, fd, target)
        self.is_connected = True

    # -- messages ---------------------------------------------------------------------------------

    def receive(
        self, context: "CallContext", fd: int, function: str, size_max: int, flags: int
    ) -> Received:
        """Return bytes or a message; none at the end."""
        if self.is_internet and self.has_connections and not self.is_connected:
            raise WasiError(Errno.NOTCONN)
        return super().receive(context, fd, function, size_max, flags)

    def send(self, context: "CallContext", fd: int, function: str, data: bytes, flags: int) -> int:
        """Send to the connected peer and return the count of sent bytes."""
        if not self.is_udp:
            return super().send(context, fd, function, data, flags)
        if not self.is_connected or not isinstance(self.remote, SocketAddress):
            raise WasiError(Errno.DESTADDRREQ)
        return self._send_datagram(context, fd, data, self.remote)

    def send_to(
        self,
        context: "CallContext",
        fd: int,
        function: str,
        data: bytes,
        flags: int,
        address: AnyAddress,
    ) -> int:
        """Send a datagram to an address and return its size."""
        if self.kind is not SocketType.DGRAM:
            raise WasiError(Errno.ISCONN if self.is_connected else Errno.NOTCONN)
        check_family(self.family, address)
        if isinstance(address, SocketAddress):
            return self._send_datagram(context, fd, data, to_target(address))
        target = self._find(address)
        if target.is_connected and target.peer is not self:
            raise WasiError(Errno.PERM)
        waits = not (self.flags & _NONBLOCK or flags & SEND_DONT_WAIT)
        return self.send_message(context, fd, function, data, target, waits=waits)

    def _send_datagram(
        self, context: "CallContext", fd: int, data: bytes, address: SocketAddress
    ) -> int:
        """Send over UDP. A datagram that nobody receives, or that finds no room, is lost."""
        self.raise_error()
        if self.is_write_shut:
            raise WasiError(Errno.PIPE)
        if len(data) > DATAGRAM_SIZE_MAX:
            raise WasiError(Errno.MSGSIZE)
        if not address.port:
            raise WasiError(Errno.INVAL)
        self._bind_to_free_port(context, fd, make_any(self.family))
        target = self.network.find(SocketType.DGRAM, address)
        if target is None:
            if self.is_connected:  # The error that the host would report for an unused port.
                self.error = Errno.CONNREFUSED
                self.announce(Readiness.ERROR)
            return len(data)
        source = to_family(get_source(self.local, address), target.family)
        is_wanted = not target.is_connected or target.remote == source
        if is_wanted and target.has_room_for(len(data)):
            context.buffers.reserve(len(data) + MESSAGE_COST)
            target.deliver(data, source)
        return len(data)

    # -- state ------------------------------------------------------------------------------------

    def buffered_size(self) -> int:
        """Return the size of the queue, and of those of the connections that wait."""
        return super().buffered_size() + sum(each.buffered_size() for each in self.pending)

    def _wait(
        self, context: "CallContext", fd: int, function: str, name: str, timeout_ns: int | None
    ) -> None:
        """Wait until the attribute ``name`` is true; raise ``WasiError`` after the timeout."""
        try:
            wait_inside(context, fd, function, lambda: bool(getattr(self, name)), timeout_ns)
        except WasiError as error:
            is_late = error.errno == Errno.AGAIN
            raise WasiError(Errno.TIMEDOUT if is_late else error.errno) from error

    def readiness(self) -> Readiness:
        """Return what the guest can do without waiting."""
        if self.backlog is not None:
            return Readiness.READABLE if self.pending else NOT_READY
        if self.is_connecting:
            return NOT_READY
        if self.has_connections and not self.is_connected:
            error = Readiness.ERROR | Readiness.READABLE if self.error else NOT_READY
            return error | Readiness.WRITABLE | Readiness.HANGUP
        return super().readiness()

    def save(self) -> ChannelState | None:
        """Return the queue and the connections. See ``named_state``."""
        return save_socket(self, super().save())

    def load(self, state: ChannelState) -> None:
        """Restore the queue and the connections."""
        super().load(load_socket(self, state))

    def close(self) -> None:
        """Close the socket, and reset the connections that were not accepted."""
        self.network.remove(self)
        for server in self.pending:
            if isinstance(server.peer, InnerSocket):
                server.peer.error = Errno.CONNRESET
            server.close()
        for client in self.waiting:
            client.fail(Errno.CONNREFUSED)
        self.pending.clear()
        self.waiting.clear()
        super().close()

    def fail(self, errno: Errno) -> None:
        """End the request for a connection, which was refused."""
        self.is_connecting, self.has_failed, self.error = False, True, errno
        self.announce()
