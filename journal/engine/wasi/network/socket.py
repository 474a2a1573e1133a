"""A socket of a guest that is backed by a socket of the host."""

from typing import TYPE_CHECKING

from journal.engine.wasi.network import connections, inside, options, receiving, sending
from journal.engine.wasi.network.addresses import make_any_address
from journal.engine.wasi.network.socket_state import Connection, HostSocketState
from journal.engine.wasi.socket_calls import AnyAddress, Received, SocketChannel
from journal.events.sockets import Shutdown, SocketOption
from journal.events.wire_types import SocketAddress
from journal.wasi_abi import Errno, WasiError

if TYPE_CHECKING:
    from journal.engine.wasi.call_context import CallContext


class Socket(HostSocketState):
    """The calls of a socket of the host."""

    def read(self, context: "CallContext", fd: int, size_max: int) -> bytes:
        """Return received bytes for fd_read."""
        return receiving.receive(context, fd, self, size_max, 0, "fd_read").data

    def write(self, context: "CallContext", fd: int, data: bytes) -> int:
        """Send the bytes of fd_write and return how many."""
        return sending.send(context, fd, self, data, 0, "fd_write")

    def bind(self, context: "CallContext", fd: int, address: AnyAddress) -> None:
        """Give the socket a local address."""
        to = _check_internet(address)
        inner = inside.find_for_bind(context, fd, self, to)
        if inner is not None:
            inner.bind(context, fd, to)
        else:
            context.network.bind(fd, self, to)

    def listen(self, context: "CallContext", fd: int, backlog: int) -> None:
        """Wait for connections from now on."""
        inner = inside.find_for_bind(context, fd, self, make_any_address(self.family))
        if inner is not None:
            inner.listen(context, fd, backlog)
        else:
            context.network.listen(fd, self, backlog)

    def accept(
        self, context: "CallContext", fd: int, function: str, flags: int
    ) -> tuple[int, SocketChannel]:
        """Return the new descriptor and the socket of the next connection."""
        return connections.accept(context, fd, self, flags, function)

    def connect(self, context: "CallContext", fd: int, function: str, address: AnyAddress) -> None:
        """Connect to a peer."""
        to = _check_internet(address)
        inner = inside.find_for_peer(context, fd, self, to)
        if inner is not None:
            inner.connect(context, fd, function, to)
        else:
            connections.connect(context, fd, self, function, to)

    def send(self, context: "CallContext", fd: int, function: str, data: bytes, flags: int) -> int:
        """Send bytes to the peer and return how many the host accepted."""
        return sending.send(context, fd, self, data, flags, function)

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
        to = _check_internet(address)
        inner = None if self.is_stream else inside.find_for_peer(context, fd, self, to)
        if inner is not None:
            return inner.send_to(context, fd, function, data, flags, to)
        return sending.send(context, fd, self, data, flags, function, to)

    def receive(
        self, context: "CallContext", fd: int, function: str, size_max: int, flags: int
    ) -> Received:
        """Return bytes, or a datagram and its sender."""
        return receiving.receive(context, fd, self, size_max, flags, function)

    def shutdown(self, context: "CallContext", fd: int, how: Shutdown) -> None:
        """End one or both directions of the connection."""
        connections.shutdown(context, fd, self, how)

    def status(self, context: "CallContext", fd: int) -> int:
        """Return the state of the connection."""
        return connections.find_status(context, fd, self)

    def local_address(self, context: "CallContext", fd: int) -> SocketAddress:
        """Return the local address; unspecified if the socket is not bound."""
        is_used = self.has_sent or self.connection is Connection.ESTABLISHED
        if not self.is_stream and self.bound is None and is_used:
            # A resume gives it another port.
            return connections.find_local_address(context, fd, self)
        return self.local or make_any_address(self.family)

    def peer_address(self, context: "CallContext", fd: int) -> SocketAddress:
        """Return the address of the peer."""
        return connections.find_peer(context, fd, self)

    def get_option(self, context: "CallContext", fd: int, option: SocketOption) -> int | None:
        """Return a flag, a size, or a time in nanoseconds."""
        return options.get_option(context, fd, self, option)

    def set_option(
        self, context: "CallContext", fd: int, option: SocketOption, value: int | None
    ) -> None:
        """Set a flag, a size, or a time in nanoseconds."""
        options.set_option(context, fd, self, option, value)


def _check_internet(address: AnyAddress) -> SocketAddress:
    """Return an internet address; raise ``WasiError`` with ``AFNOSUPPORT`` for a Unix name."""
    if isinstance(address, bytes):
        raise WasiError(Errno.AFNOSUPPORT)
    return address
